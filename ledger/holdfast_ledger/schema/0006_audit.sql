-- compatible from: 1
-- Typed views for readers of the record. A run is a session, a step is a turn.

-- A text of a clear column; null where it is sealed.
CREATE FUNCTION audit.plain(said text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN NOT said ^@ 'sealed.1:' THEN said END;

-- What of a sealed body anyone may read, as JSON; null where all of it is sealed, or none.
CREATE FUNCTION audit.open_part(body bytea) RETURNS bytea
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN substr(body, 1, 4) = '\xff484602'::bytea THEN
    substr(body, 61, ('x' || encode(substr(body, 57, 4), 'hex'))::bit(32)::integer)
END;

-- A field of a plain body, or of the open part of an encrypted one; null where it is sealed, or holds a string that text
-- cannot (NUL).
CREATE FUNCTION audit.said(body bytea, key_id text, VARIADIC path text[]) RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF key_id IS NOT NULL THEN
        body := audit.open_part(body);
    END IF;
    RETURN audit.plain(convert_from(body, 'UTF8')::json #>> path);
EXCEPTION WHEN data_exception THEN
    RETURN NULL;
END
$$;
REVOKE ALL ON FUNCTION audit.said(bytea, text, text[]), audit.open_part(bytea) FROM PUBLIC;

CREATE VIEW audit.run AS
SELECT
    s.id AS run_id, s.agent, s.model, s.requested_by, s.on_behalf_of, s.roles, s.tenant, s.labels, s.status,
    audit.plain(s.status_reason) AS reason, s.turns, s.calls,
    s.input_tokens + s.output_tokens + s.cache_read_tokens + s.cache_write_tokens AS tokens,
    s.usd, s.catalogue_digest, s.first_run_id AS temporal_run_id, c.seq AS entries,
    encode(c.head, 'hex') AS chain_head, s.registered_at AS created_at, s.ended_at
FROM holdfast.session s JOIN holdfast.chain c USING (session_key)
WHERE NOT s.id ^@ '@';

CREATE VIEW audit.session_timeline AS
SELECT
    s.id AS run_id, e.seq, e.kind, e.turn AS step_num, e.call AS call_id, e.tool AS tool_name, e.tier, e.outcome,
    e.actor, audit.said(e.body, e.key_id, 'reason') AS reason, e.effect_id, e.token AS attempt, e.saga_id,
    e.args_digest AS args_hash, e.latency_us / 1000.0 AS latency_ms, e.at AS created_at, e.recorded_at,
    encode(e.hash, 'hex') AS entry_hash
FROM holdfast.entry e JOIN holdfast.session s USING (session_key);

CREATE VIEW audit.step AS
SELECT
    s.id AS run_id, t.turn AS step_num, t.effect_id, t.model_asked, t.model_answered, t.stop_reason,
    t.input_tokens, t.output_tokens, t.cache_read_tokens, t.cache_write_tokens, t.usd,
    t.latency_us / 1000.0 AS latency_ms, e.attempts_used AS attempts, t.request_digest AS request_hash,
    t.digest AS answer_hash, t.recorded_at AS created_at
FROM holdfast.turn t JOIN holdfast.session s USING (session_key) JOIN holdfast.effect e USING (effect_id);

CREATE VIEW audit.tool_call AS
SELECT
    s.id AS run_id, e.turn AS step_num, e.call AS call_id, e.tool AS tool_name, e.tool_version, e.tier,
    e.recovery, e.fingerprint AS args_hash, e.state, e.effect_id, e.attempts_used AS attempts, e.saga_id,
    e.planned_at AS created_at, e.settled_at
FROM holdfast.effect e JOIN holdfast.session s USING (session_key)
WHERE e.kind = 'call';

-- Who allowed what: the policy's verdict, a person's decision, and the authorization each attempt ran with.
CREATE VIEW audit.authz_decision AS
SELECT
    s.id AS run_id, e.turn AS step_num, e.call AS call_id, e.tool AS tool_name, e.tier, e.args_digest AS args_hash,
    CASE e.kind
        WHEN 'call_decided' THEN 'policy' WHEN 'approval_decided' THEN 'person' ELSE 'dispatch'
    END AS stage,
    coalesce(e.outcome, audit.said(e.body, e.key_id, 'authorization', 'verdict')) AS action,
    e.kind = 'effect_intent' OR e.outcome IN ('allow', 'allowed', 'approved') AS allowed,
    coalesce(
        audit.said(e.body, e.key_id, 'reason'), audit.said(e.body, e.key_id, 'rule'),
        audit.said(e.body, e.key_id, 'authorization', 'rule')
    ) AS reason,
    e.actor AS decided_by,
    CASE WHEN e.kind <> 'call_decided' AND e.actor IS NOT NULL THEN coalesce(
        audit.said(e.body, e.key_id, 'authenticated'), audit.said(e.body, e.key_id, 'authorization', 'authenticated'),
        'false'
    )::boolean END AS authenticated,
    coalesce(
        audit.said(e.body, e.key_id, 'rule'), audit.said(e.body, e.key_id, 'authorization', 'rule')
    ) AS rule,
    coalesce(
        audit.said(e.body, e.key_id, 'policy_version'), audit.said(e.body, e.key_id, 'authorization', 'policy_version')
    )::integer AS policy_version,
    e.effect_id, e.at AS created_at
FROM holdfast.entry e JOIN holdfast.session s USING (session_key)
WHERE e.kind IN ('call_decided', 'approval_decided', 'effect_intent');

-- One row per attempt that reported or was given up. executed: null where nobody knows.
CREATE VIEW audit.tool_result AS
SELECT
    s.id AS run_id, e.turn AS step_num, e.call AS call_id, e.tool AS tool_name, e.tier, e.args_digest AS args_hash,
    e.token AS attempt, e.outcome AS action,
    CASE
        WHEN e.outcome IN ('done', 'landed_late', 'late_done') THEN true
        WHEN e.outcome IN ('failed', 'released') THEN false
    END AS executed,
    coalesce(audit.said(e.body, e.key_id, 'outcome', 'code'), audit.said(e.body, e.key_id, 'code')) AS reason,
    audit.said(e.body, e.key_id, 'outcome', 'digest') AS result_hash,
    audit.said(e.body, e.key_id, 'outcome', 'size')::bigint AS result_bytes,
    e.latency_us / 1000.0 AS latency_ms, e.effect_id, e.at AS created_at
FROM holdfast.entry e JOIN holdfast.session s USING (session_key)
WHERE e.kind = 'effect_outcome';

-- What can be undone, what was, and what a person said instead. action: the compensating tool, or `undone_by_hand`,
-- `may_stand`. executed: null where nobody knows. outcome: `registered` until somebody begins to undo it.
CREATE VIEW audit.compensation_action AS
SELECT
    s.id AS run_id, e.turn AS step_num, e.call AS call_id, e.tool AS tool_name,
    coalesce(e.waived, u.tool, e.undo_tool) AS action, coalesce(u.tool_version, e.undo_version) AS undo_version,
    e.saga_id, g.state AS saga_state, u.state AS undo_state,
    CASE
        WHEN u.state = 'DONE' OR e.waived = 'undone_by_hand' THEN true
        WHEN u.state IN ('CLAIMED', 'UNKNOWN') OR u.state = 'OPEN' AND u.doubt THEN NULL
        ELSE false
    END AS executed,
    coalesce(e.waived, lower(u.state), 'registered') AS outcome, u.attempts_used AS attempts,
    u.latency_us / 1000.0 AS latency_ms, e.effect_id, u.effect_id AS undo_effect_id, u.usd,
    e.settled_at AS created_at, u.settled_at AS undone_at
FROM holdfast.effect e
JOIN holdfast.session s USING (session_key)
JOIN holdfast.saga g ON g.id = e.saga_id
LEFT JOIN holdfast.effect u ON u.undo_of = e.effect_id
WHERE e.kind = 'call' AND (e.undo_tool IS NOT NULL OR u.effect_id IS NOT NULL OR e.waived IS NOT NULL);
