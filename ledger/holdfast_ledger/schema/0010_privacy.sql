-- compatible from: 1
-- Privacy: the wrapped keys of sessions, what destroys one, and who read what it protected.

-- Sessions whose contents are gone for everybody.
CREATE TABLE holdfast.erasure (
    session_key uuid PRIMARY KEY REFERENCES holdfast.session (session_key),
    by text NOT NULL,
    reason text NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- The key a session is made with. None: its contents are stored in clear.
CREATE FUNCTION holdfast.keep_key(s_key uuid, k jsonb) RETURNS void
LANGUAGE sql AS $$
    INSERT INTO holdfast.session_key (session_key, key_id, master_id, wrapped)
    SELECT s_key, k->>'id', k->>'master_id', decode(k->>'wrapped', 'base64') WHERE k ? 'id'
$$;

-- Wrap a session's key anew; false where it is not wrapped by that master key any more, or was erased meanwhile.
CREATE FUNCTION holdfast.rewrap_key(
    p_session_key uuid, p_from_master text, p_to_master text, p_wrapped bytea
) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, holdfast, pg_temp AS $$
BEGIN
    UPDATE holdfast.session_key SET master_id = p_to_master, wrapped = p_wrapped, wrapped_at = clock_timestamp()
    WHERE session_key = p_session_key AND master_id = p_from_master;
    RETURN FOUND;
END
$$;

-- Keys were wrapped anew: so many, under this master key.
CREATE FUNCTION holdfast.note_rotation(p jsonb, p_body bytea) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, holdfast, pg_temp AS $$
    SELECT holdfast.say_operation(p, 'keys_rotated', p_body)
$$;

-- A person had the contents of a session decrypted.
CREATE FUNCTION holdfast.note_contents_read(p jsonb, p_body bytea) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, holdfast, pg_temp AS $$
    SELECT holdfast.say_operation(p, 'contents_read', p_body)
$$;

-- Why a session cannot be erased; null where it can.
CREATE FUNCTION holdfast.why_not_erase(s holdfast.session) RETURNS text
LANGUAGE sql STABLE AS $$
    SELECT CASE
        WHEN s.id ^@ '@' THEN 'it is a chain of the ledger''s own'
        WHEN s.key_id IS NULL THEN 'its contents are stored in clear, and the ledger is append-only: nothing can be '
            'taken out of it. Only sessions that begin with a master key (HOLDFAST_MASTER_KEYS, [ledger] encryption) '
            'can be erased'
        WHEN s.ended_at IS NULL THEN 'it has not ended'
        WHEN EXISTS (
            SELECT FROM holdfast.saga g WHERE g.session_key = s.session_key AND g.state NOT IN ('COMMITTED', 'ABORTED')
        ) THEN 'a saga of it is not closed: what it did may still have to be looked into or undone'
        WHEN EXISTS (
            SELECT FROM holdfast.effect e WHERE e.session_key = s.session_key AND e.state IN ('CLAIMED', 'UNKNOWN')
        ) THEN 'an effect of it runs or is in doubt'
    END
$$;

-- Destroy a session's key, and empty what is not chained. Returns when and by whom it was erased, which may have been
-- before: `fresh` is whether this call did it.
CREATE FUNCTION holdfast.erase_session(p jsonb, p_body bytea)
RETURNS TABLE (fresh boolean, at timestamptz, by text, reason text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, holdfast, pg_temp AS $$
#variable_conflict use_column
DECLARE
    s holdfast.session;
    made boolean;
    why_not text;
BEGIN
    PERFORM FROM holdfast.saga g
    WHERE g.session_key = holdfast.key_of(p->>'session_id') FOR UPDATE;
    SELECT * INTO STRICT s FROM holdfast.session WHERE id = p->>'session_id' FOR UPDATE;
    why_not := holdfast.why_not_erase(s);
    IF why_not IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'HF009', MESSAGE = format(
            'the session "%s" cannot be erased: %s', s.id, why_not
        );
    END IF;
    INSERT INTO holdfast.erasure (session_key, by, reason) VALUES (s.session_key, p->>'by', p->>'reason')
    ON CONFLICT DO NOTHING;
    made := FOUND;
    IF made THEN
        DELETE FROM holdfast.session_key WHERE session_key = s.session_key;
        PERFORM holdfast.empty_contents(s);
        PERFORM holdfast.say_operation(p, 'session_erased', p_body);
    END IF;
    RETURN QUERY SELECT made, x.at, x.by, x.reason FROM holdfast.erasure x WHERE x.session_key = s.session_key;
END
$$;

-- What stands beside the chain: ciphertext nobody can open any more, and digests that could be guessed. States,
-- counts, costs and times stay.
CREATE FUNCTION holdfast.empty_contents(s holdfast.session) RETURNS void
LANGUAGE sql AS $$
    UPDATE holdfast.content SET body = '' WHERE session_key = s.session_key;
    UPDATE holdfast.attempt a SET evidence = NULL
    FROM holdfast.effect e WHERE e.session_key = s.session_key AND a.effect_id = e.effect_id;
    UPDATE holdfast.effect SET
        preview = NULL, authorization_body = NULL, args = NULL, args_salt = NULL, outcome = NULL, result = NULL,
        shown = NULL, undo_args = NULL, probe_said = NULL, semantic_key = NULL
    WHERE session_key = s.session_key;
    UPDATE holdfast.approval SET preview = NULL, reason = NULL WHERE session_key = s.session_key;
    UPDATE holdfast.saga SET reason = NULL, input = NULL, salt = NULL, result = NULL
    WHERE session_key = s.session_key;
    UPDATE holdfast.session SET status_reason = NULL WHERE session_key = s.session_key;
    DELETE FROM holdfast.chunk WHERE session_id = s.id;
$$;

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA holdfast FROM PUBLIC;
GRANT SELECT ON holdfast.session_key, holdfast.erasure TO holdfast_app;
GRANT SELECT ON holdfast.erasure TO holdfast_auditor;
GRANT EXECUTE ON FUNCTION audit.plain(text) TO holdfast_app, holdfast_auditor;
GRANT EXECUTE ON FUNCTION
    holdfast.rewrap_key(uuid, text, text, bytea),
    holdfast.note_rotation(jsonb, bytea),
    holdfast.note_contents_read(jsonb, bytea),
    holdfast.erase_session(jsonb, bytea)
TO holdfast_app;
