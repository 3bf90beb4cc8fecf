-- compatible from: 1
-- The append-only record: one hash chain per session, written by one function, guarded by triggers.
-- Here and in every file: what a role, a trigger or an administrator starts pins its search_path, and what it calls, which
-- nobody else may call, takes it over: pinned again it would cost a claim more than some of its statements do.

-- The only mutable row of a chain. Always the last lock of a transaction.
CREATE TABLE holdfast.chain (
    session_key uuid PRIMARY KEY REFERENCES holdfast.session (session_key),
    seq bigint NOT NULL DEFAULT 0,
    head bytea NOT NULL
) WITH (fillfactor = 50);

CREATE TABLE holdfast.entry (
    session_key uuid NOT NULL,
    seq bigint NOT NULL,
    version smallint NOT NULL,      -- of the hash
    fact_key text COLLATE "C" NOT NULL,
    fact_digest bytea NOT NULL,     -- of the fact's plaintext: the same key with another digest is a conflict
    kind text NOT NULL,
    at timestamptz NOT NULL,        -- when it happened
    recorded_at timestamptz NOT NULL, -- when it was written, on the database's clock
    turn integer,
    call text,
    effect_id text,
    token integer,
    saga_id text,
    tool text,
    tier text,
    outcome text,
    actor text,
    args_digest text,
    latency_us bigint,
    key_id text,                    -- null: the body is plain canonical JSON
    body bytea NOT NULL,
    prev bytea NOT NULL,
    hash bytea NOT NULL,
    PRIMARY KEY (session_key, seq),
    UNIQUE (session_key, fact_key)
) PARTITION BY RANGE (session_key);

-- A length and the bytes; null has a length no value can have.
CREATE FUNCTION holdfast.prefixed(value bytea) RETURNS bytea
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN coalesce(int8send(octet_length(value)) || value, '\xffffffffffffffff'::bytea);

CREATE FUNCTION holdfast.prefixed(value text) RETURNS bytea
LANGUAGE sql STABLE PARALLEL SAFE  -- as stable as convert_to, else it would not be inlined
RETURN coalesce(
    int8send(octet_length(value)) || convert_to(value, 'UTF8'), '\xffffffffffffffff'::bytea
);

CREATE FUNCTION holdfast.microseconds(value timestamptz) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
RETURN ((extract(epoch FROM value) * 1000000)::bigint)::text;

-- What the first entry of a session points back to: binds the chain to the session's identity.
CREATE FUNCTION holdfast.chain_start(session_id text, session_key uuid) RETURNS bytea
LANGUAGE sql STABLE PARALLEL SAFE
RETURN sha256(
    holdfast.prefixed('holdfast.chain.1'::text) || holdfast.prefixed(session_id)
    || holdfast.prefixed(session_key::text)
);

-- Version 1: every column but the hash itself, in this order. Never edited: a change is version 2.
CREATE FUNCTION holdfast.entry_hash(e holdfast.entry) RETURNS bytea
LANGUAGE sql STABLE PARALLEL SAFE AS $$  -- inlined where an entry is written
    SELECT sha256(
        holdfast.prefixed('holdfast.entry.1'::text)
        || holdfast.prefixed(e.prev)
        || holdfast.prefixed(e.seq::text)
        || holdfast.prefixed(e.fact_key)
        || holdfast.prefixed(e.fact_digest)
        || holdfast.prefixed(e.kind)
        || holdfast.prefixed(holdfast.microseconds(e.at))
        || holdfast.prefixed(holdfast.microseconds(e.recorded_at))
        || holdfast.prefixed(e.turn::text)
        || holdfast.prefixed(e.call)
        || holdfast.prefixed(e.effect_id)
        || holdfast.prefixed(e.token::text)
        || holdfast.prefixed(e.saga_id)
        || holdfast.prefixed(e.tool)
        || holdfast.prefixed(e.tier)
        || holdfast.prefixed(e.outcome)
        || holdfast.prefixed(e.actor)
        || holdfast.prefixed(e.args_digest)
        || holdfast.prefixed(e.latency_us::text)
        || holdfast.prefixed(e.key_id)
        || holdfast.prefixed(e.body)
    )
$$;

-- The id of the key a body is sealed with, see holdfast_ledger.sealing; null: it stands in clear. No JSON and no text
-- in UTF-8 begins with 0xFF.
CREATE FUNCTION holdfast.sealed_by(body bytea) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN substr(body, 1, 4) IN ('\xff484601', '\xff484602') THEN encode(substr(body, 5, 8), 'hex') END;

-- What makes two facts the same. A sealed body carries a keyed digest of what it hides.
CREATE FUNCTION holdfast.digest_of(body bytea) RETURNS bytea
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN holdfast.sealed_by(body) IS NULL THEN sha256(body) ELSE substr(body, 13, 32) END;

-- Append one entry. The same fact twice is one entry; returns whether this call wrote it. is_new: a lock of the caller's
-- lets this be said only once, so it is not looked for; were it there all the same, its key would refuse it.
-- Internal: no role but the owner may call it.
CREATE FUNCTION holdfast.append(
    session_key uuid, fact_key text, fact_digest bytea, kind text, at timestamptz, body bytea,
    turn integer DEFAULT NULL, call text DEFAULT NULL, effect_id text DEFAULT NULL, token integer DEFAULT NULL,
    saga_id text DEFAULT NULL, tool text DEFAULT NULL, tier text DEFAULT NULL, outcome text DEFAULT NULL,
    actor text DEFAULT NULL, args_digest text DEFAULT NULL, latency_us bigint DEFAULT NULL, is_new boolean DEFAULT false
) RETURNS boolean
LANGUAGE plpgsql AS $$
#variable_conflict use_variable
DECLARE
    key_id text := holdfast.sealed_by(body);
    head record;
    now timestamptz;
    written bytea;
BEGIN
    IF key_id IS NOT NULL THEN
        fact_digest := holdfast.digest_of(body);
    END IF;
    SELECT c.seq + 1 AS seq, c.head AS hash INTO STRICT head
    FROM holdfast.chain c WHERE c.session_key = append.session_key FOR UPDATE;
    IF NOT is_new AND holdfast.known(session_key, fact_key, fact_digest) THEN
        RETURN false;
    END IF;
    now := clock_timestamp();
    INSERT INTO holdfast.entry (
        session_key, seq, version, fact_key, fact_digest, kind, at, recorded_at, turn, call, effect_id, token, saga_id,
        tool, tier, outcome, actor, args_digest, latency_us, key_id, body, prev, hash
    )
    VALUES (
        session_key, head.seq, 1, fact_key, fact_digest, kind, at, now, turn, call, effect_id, token, saga_id,
        tool, tier, outcome, actor, args_digest, latency_us, key_id, body, head.hash, holdfast.entry_hash(ROW(
            session_key, head.seq, 1, fact_key, fact_digest, kind, at, now, turn, call, effect_id, token, saga_id,
            tool, tier, outcome, actor, args_digest, latency_us, key_id, body, head.hash, NULL
        )::holdfast.entry)
    )
    RETURNING hash INTO written;
    UPDATE holdfast.chain c SET seq = head.seq, head = written WHERE c.session_key = append.session_key;
    RETURN true;
END
$$;

-- Whether a fact was told before; refused where it was told otherwise. One plan for all sessions: a plan for one, which
-- knows its partition, is cheaper to run and far dearer to make.
CREATE FUNCTION holdfast.known(s_key uuid, key text, digest bytea) RETURNS boolean
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    told bytea;
BEGIN
    SELECT o.fact_digest INTO told FROM holdfast.entry o WHERE o.session_key = s_key AND o.fact_key = key;
    IF FOUND AND told <> digest THEN
        RAISE EXCEPTION USING ERRCODE = 'HF001', MESSAGE = format(
            'the fact "%s" was recorded before with another content', key
        );
    END IF;
    RETURN FOUND;
END
$$;

CREATE FUNCTION holdfast.refuse_change() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, holdfast, pg_temp AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = 'HF005', MESSAGE = format(
        'the ledger is append-only: %s on %I is refused', TG_OP, TG_TABLE_NAME
    );
END
$$;

-- An entry may go only when its session's archive is on record, which only the owner can put there.
CREATE FUNCTION holdfast.refuse_loss() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, holdfast, pg_temp AS $$
BEGIN
    IF TG_OP = 'DELETE' AND EXISTS (
        SELECT FROM holdfast.archive a WHERE a.session_key = OLD.session_key AND a.seq >= OLD.seq
    ) THEN
        RETURN OLD;
    END IF;
    RAISE EXCEPTION USING ERRCODE = 'HF005', MESSAGE = format(
        'the ledger is append-only: %s on %I is refused', TG_OP, TG_TABLE_NAME
    );
END
$$;

CREATE TRIGGER entries_stay BEFORE UPDATE OR DELETE ON holdfast.entry
    FOR EACH ROW EXECUTE FUNCTION holdfast.refuse_loss();
ALTER TABLE holdfast.entry ENABLE ALWAYS TRIGGER entries_stay;
CREATE TRIGGER entries_are_not_truncated BEFORE TRUNCATE ON holdfast.entry
    FOR EACH STATEMENT EXECUTE FUNCTION holdfast.refuse_change();
ALTER TABLE holdfast.entry ENABLE ALWAYS TRIGGER entries_are_not_truncated;

-- TRUNCATE triggers are not inherited, and a row trigger's ALWAYS must hold on each partition too.
CREATE FUNCTION holdfast.guard_partition(partition regclass) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, holdfast, pg_temp AS $$
BEGIN
    EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER entries_stay', partition);
    EXECUTE format(
        'CREATE TRIGGER entries_are_not_truncated BEFORE TRUNCATE ON %s '
        'FOR EACH STATEMENT EXECUTE FUNCTION holdfast.refuse_change()', partition
    );
    EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER entries_are_not_truncated', partition);
END
$$;

-- The lowest UUIDv7 of an instant: its milliseconds, then zeros.
CREATE FUNCTION holdfast.first_key(instant timestamptz) RETURNS uuid
LANGUAGE sql STABLE PARALLEL SAFE
RETURN (lpad(to_hex((extract(epoch FROM instant) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid;

CREATE TABLE holdfast.entry_rest PARTITION OF holdfast.entry DEFAULT;
SELECT holdfast.guard_partition('holdfast.entry_rest');

-- Make the partitions of this month and the next ones; returns the names of those it made. A month that already
-- has rows in the default partition is left there.
CREATE FUNCTION holdfast.make_partitions(months_ahead integer) RETURNS SETOF text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, holdfast, pg_temp AS $$
DECLARE
    month timestamp;
    name text;
    first uuid;
    after uuid;
BEGIN
    FOR month IN
        SELECT date_trunc('month', clock_timestamp() AT TIME ZONE 'UTC') + make_interval(months => n)
        FROM generate_series(0, months_ahead) AS n
    LOOP
        name := to_char(month, '"entry_"YYYY_MM');
        first := holdfast.first_key(month AT TIME ZONE 'UTC');
        after := holdfast.first_key((month + interval '1 month') AT TIME ZONE 'UTC');
        CONTINUE WHEN to_regclass(format('holdfast.%I', name)) IS NOT NULL;
        CONTINUE WHEN EXISTS (
            SELECT FROM holdfast.entry_rest r WHERE r.session_key >= first AND r.session_key < after
        );
        EXECUTE format(
            'CREATE TABLE holdfast.%I (LIKE holdfast.entry INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', name
        );
        EXECUTE format(  -- attaching, unlike creating as a partition, lets others go on writing
            'ALTER TABLE holdfast.entry ATTACH PARTITION holdfast.%I FOR VALUES FROM (%L) TO (%L)', name, first, after
        );
        PERFORM holdfast.guard_partition(format('holdfast.%I', name)::regclass);
        RETURN NEXT name;
    END LOOP;
END
$$;
