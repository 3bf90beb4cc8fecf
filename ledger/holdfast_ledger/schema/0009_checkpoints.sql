-- compatible from: 1
-- Evidence and retention: signed checkpoints over the heads of all chains, and what of the record lives in archives.

-- One row per checkpoint, each over the one before: what chains had advanced, under a signature.
CREATE TABLE holdfast.checkpoint (
    number bigint PRIMARY KEY CHECK (number > 0),
    version smallint NOT NULL,      -- of the signed statement
    at timestamptz NOT NULL,
    prev bytea NOT NULL,            -- hash of the checkpoint before; 32 zero bytes before the first
    advances integer NOT NULL CHECK (advances > 0),
    root bytea NOT NULL,            -- Merkle root (RFC 6962) over the advances, by session_key
    key_id text NOT NULL,
    hash bytea NOT NULL,            -- of the signed statement
    signature bytea NOT NULL        -- Ed25519
);

-- Where a chain stood when a checkpoint was made. No foreign key to a session: it must outlive one that is lost.
CREATE TABLE holdfast.checkpoint_advance (
    number bigint NOT NULL REFERENCES holdfast.checkpoint,
    session_id text COLLATE "C" NOT NULL,
    session_key uuid NOT NULL,
    seq bigint NOT NULL,
    head bytea NOT NULL,
    PRIMARY KEY (session_key, seq)
);
CREATE INDEX checkpoint_advance_by_number ON holdfast.checkpoint_advance (number, session_key);

-- Version 1 of what is signed. Never edited: a change is version 2.
CREATE FUNCTION holdfast.checkpoint_hash(
    number bigint, at timestamptz, prev bytea, advances integer, root bytea, key_id text
) RETURNS bytea
LANGUAGE sql STABLE PARALLEL SAFE
RETURN sha256(
    holdfast.prefixed('holdfast.checkpoint.1'::text) || holdfast.prefixed(number::text)
    || holdfast.prefixed(holdfast.microseconds(at)) || holdfast.prefixed(prev) || holdfast.prefixed(advances::text)
    || holdfast.prefixed(root) || holdfast.prefixed(key_id)
);

-- Become the one writer of checkpoints until the transaction ends; false: another one is at it.
CREATE FUNCTION holdfast.begin_checkpoint(wait boolean) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, holdfast, pg_temp AS $$
BEGIN
    IF wait THEN
        PERFORM pg_advisory_xact_lock(4745230148);
        RETURN true;
    END IF;
    RETURN pg_try_advisory_xact_lock(4745230148);
END
$$;

-- Append a checkpoint that follows the last one and says only what the chains say. Signed outside: no key is here.
CREATE FUNCTION holdfast.append_checkpoint(
    p_number bigint, p_at timestamptz, p_prev bytea, p_root bytea, p_key_id text, p_hash bytea, p_signature bytea,
    p_sessions text[], p_keys uuid[], p_seqs bigint[], p_heads bytea[]
) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, holdfast, pg_temp AS $$
DECLARE
    last_number bigint;
    last_hash bytea;
BEGIN
    PERFORM pg_advisory_xact_lock(4745230148);
    SELECT number, hash INTO last_number, last_hash FROM holdfast.checkpoint ORDER BY number DESC LIMIT 1;
    IF p_number <> coalesce(last_number, 0) + 1 OR p_prev <> coalesce(last_hash, decode(repeat('00', 32), 'hex')) THEN
        RAISE EXCEPTION USING ERRCODE = 'HF010', MESSAGE = format(
            'checkpoint %s does not follow checkpoint %s', p_number, coalesce(last_number, 0)
        );
    END IF;
    IF p_hash <> holdfast.checkpoint_hash(p_number, p_at, p_prev, cardinality(p_keys), p_root, p_key_id) THEN
        RAISE EXCEPTION USING ERRCODE = 'HF010', MESSAGE = format('checkpoint %s has another hash', p_number);
    END IF;
    INSERT INTO holdfast.checkpoint (number, version, at, prev, advances, root, key_id, hash, signature)
    VALUES (p_number, 1, p_at, p_prev, cardinality(p_keys), p_root, p_key_id, p_hash, p_signature);
    INSERT INTO holdfast.checkpoint_advance (number, session_id, session_key, seq, head)
    SELECT p_number, s.id, c.session_key, a.seq, a.head
    FROM unnest(p_sessions, p_keys, p_seqs, p_heads) AS a (session_id, session_key, seq, head)
    JOIN holdfast.session s ON s.id = a.session_id AND s.session_key = a.session_key
    JOIN holdfast.chain c ON c.session_key = a.session_key AND c.seq >= a.seq
    WHERE c.seq = a.seq AND c.head = a.head OR EXISTS (
        SELECT FROM holdfast.entry e WHERE e.session_key = a.session_key AND e.seq = a.seq AND e.hash = a.head
    );
    IF (SELECT count(*) FROM holdfast.checkpoint_advance WHERE number = p_number) <> cardinality(p_keys) THEN
        RAISE EXCEPTION USING ERRCODE = 'HF010', MESSAGE = format(
            'checkpoint %s says of a chain what the chain does not say', p_number
        );
    END IF;
END
$$;

-- Sessions whose record lives in a file. Their row and the end of their chain stay.
CREATE TABLE holdfast.archive (
    session_key uuid PRIMARY KEY,
    session_id text COLLATE "C" NOT NULL,
    seq bigint NOT NULL,            -- entries up to here are in the file
    head bytea NOT NULL,            -- hash of the last of them
    file text NOT NULL,             -- its name, without its directory
    file_digest text NOT NULL,      -- sha256 of the whole file
    archived_by text NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- What stops a session from being archived, in words; null where nothing does.
CREATE FUNCTION holdfast.why_not_archive(s holdfast.session) RETURNS text
LANGUAGE sql STABLE AS $$
    SELECT CASE
        WHEN s.id ^@ '@' THEN 'it is a chain of the ledger''s own'
        WHEN s.ended_at IS NULL THEN 'it has not ended'
        WHEN EXISTS (SELECT FROM holdfast.archive a WHERE a.session_key = s.session_key) THEN 'it is archived'
        WHEN EXISTS (
            SELECT FROM holdfast.saga g WHERE g.session_key = s.session_key AND g.state NOT IN ('COMMITTED', 'ABORTED')
        ) THEN 'a saga of it is not closed'
        WHEN EXISTS (
            SELECT FROM holdfast.effect e WHERE e.session_key = s.session_key AND e.state IN ('CLAIMED', 'UNKNOWN')
        ) THEN 'an effect of it runs or is in doubt'
        WHEN EXISTS (
            SELECT FROM holdfast.chain c
            WHERE c.session_key = s.session_key AND c.seq > 0 AND NOT EXISTS (
                SELECT FROM holdfast.checkpoint_advance a
                WHERE a.session_key = c.session_key AND a.seq = c.seq AND a.head = c.head
            )
        ) THEN 'no checkpoint covers its last entry'
    END
$$;

-- The session's record is in a file: say so, and remove what the file holds. For the owner alone.
CREATE FUNCTION holdfast.archive_session(p jsonb, p_head bytea, p_body bytea) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, holdfast, pg_temp AS $$
DECLARE
    s holdfast.session;
    c holdfast.chain;
    why_not text;
BEGIN
    PERFORM holdfast.key_of(p->>'session_id');
    SELECT * INTO s FROM holdfast.session WHERE id = p->>'session_id' FOR UPDATE;
    SELECT * INTO c FROM holdfast.chain WHERE session_key = s.session_key FOR UPDATE;
    why_not := coalesce(
        holdfast.why_not_archive(s),
        CASE WHEN c.seq <> (p->>'seq')::bigint OR c.head <> p_head THEN 'it went on while it was written' END
    );
    IF why_not IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'HF011', MESSAGE = format(
            'the session "%s" cannot be archived: %s', s.id, why_not
        );
    END IF;
    INSERT INTO holdfast.archive (session_key, session_id, seq, head, file, file_digest, archived_by)
    VALUES (s.session_key, s.id, c.seq, c.head, p->>'file', p->>'file_digest', p->>'by');
    DELETE FROM holdfast.attempt a USING holdfast.effect e
    WHERE a.effect_id = e.effect_id AND e.session_key = s.session_key;
    DELETE FROM holdfast.turn WHERE session_key = s.session_key;
    DELETE FROM holdfast.effect WHERE session_key = s.session_key;
    DELETE FROM holdfast.saga WHERE session_key = s.session_key;
    DELETE FROM holdfast.approval WHERE session_key = s.session_key;
    DELETE FROM holdfast.message WHERE session_key = s.session_key;
    DELETE FROM holdfast.content WHERE session_key = s.session_key;
    DELETE FROM holdfast.entry WHERE session_key = s.session_key;
    PERFORM holdfast.say_operation(p, 'session_archived', p_body);
END
$$;

-- Remove the partitions of past months whose sessions are all archived; returns their names. For the owner alone.
CREATE FUNCTION holdfast.drop_empty_partitions() RETURNS SETOF text
LANGUAGE plpgsql SET search_path = pg_catalog, holdfast, pg_temp AS $$
DECLARE
    partition record;
    used boolean;
BEGIN
    FOR partition IN
        SELECT c.relname AS name FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = 'holdfast.entry'::regclass AND c.relname ~ '^entry_\d{4}_\d{2}$'
          AND c.relname < to_char(clock_timestamp() AT TIME ZONE 'UTC', '"entry_"YYYY_MM')
        ORDER BY 1
    LOOP
        EXECUTE format('SELECT EXISTS (SELECT FROM holdfast.%I)', partition.name) INTO used;
        CONTINUE WHEN used;
        EXECUTE format('DROP TABLE holdfast.%I', partition.name);
        RETURN NEXT partition.name;
    END LOOP;
END
$$;

CREATE TRIGGER rows_stay BEFORE UPDATE OR DELETE ON holdfast.checkpoint
    FOR EACH ROW EXECUTE FUNCTION holdfast.refuse_change();
CREATE TRIGGER rows_are_not_truncated BEFORE TRUNCATE ON holdfast.checkpoint
    FOR EACH STATEMENT EXECUTE FUNCTION holdfast.refuse_change();
CREATE TRIGGER rows_stay BEFORE UPDATE OR DELETE ON holdfast.checkpoint_advance
    FOR EACH ROW EXECUTE FUNCTION holdfast.refuse_change();
CREATE TRIGGER rows_are_not_truncated BEFORE TRUNCATE ON holdfast.checkpoint_advance
    FOR EACH STATEMENT EXECUTE FUNCTION holdfast.refuse_change();
CREATE TRIGGER rows_stay BEFORE UPDATE OR DELETE ON holdfast.archive
    FOR EACH ROW EXECUTE FUNCTION holdfast.refuse_change();
CREATE TRIGGER rows_are_not_truncated BEFORE TRUNCATE ON holdfast.archive
    FOR EACH STATEMENT EXECUTE FUNCTION holdfast.refuse_change();
ALTER TABLE holdfast.checkpoint ENABLE ALWAYS TRIGGER rows_stay;
ALTER TABLE holdfast.checkpoint ENABLE ALWAYS TRIGGER rows_are_not_truncated;
ALTER TABLE holdfast.checkpoint_advance ENABLE ALWAYS TRIGGER rows_stay;
ALTER TABLE holdfast.checkpoint_advance ENABLE ALWAYS TRIGGER rows_are_not_truncated;
ALTER TABLE holdfast.archive ENABLE ALWAYS TRIGGER rows_stay;
ALTER TABLE holdfast.archive ENABLE ALWAYS TRIGGER rows_are_not_truncated;

GRANT SELECT ON holdfast.checkpoint, holdfast.checkpoint_advance, holdfast.archive
TO holdfast_app, holdfast_auditor;
GRANT EXECUTE ON FUNCTION
    holdfast.begin_checkpoint(boolean),
    holdfast.append_checkpoint(
        bigint, timestamptz, bytea, bytea, text, bytea, bytea, text[], uuid[], bigint[], bytea[]
    )
TO holdfast_app;
