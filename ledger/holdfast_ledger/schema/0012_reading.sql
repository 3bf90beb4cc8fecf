-- compatible from: 1
-- Reading across sessions: what an auditor asks for, what a log collector takes away, what it all cost.

-- Queries and the feed go by when an entry was written, on the database's clock.
CREATE INDEX entry_by_time ON holdfast.entry (recorded_at);

-- Whatever was paid for: one row for each recorded model turn and each call that ended. usd: null where no price is
-- known. A call that was cancelled before it ran cost nothing and is no row.
CREATE VIEW holdfast.spending AS
SELECT
    t.session_key, coalesce(t.model_answered, t.model_asked) AS model, NULL::text AS tool, t.recorded_at AS at,
    1 AS turns, 0 AS calls, t.input_tokens, t.output_tokens, t.cache_read_tokens, t.cache_write_tokens, t.usd
FROM holdfast.turn t
UNION ALL
SELECT e.session_key, NULL, e.tool, e.settled_at, 0, 1, 0, 0, 0, 0, e.usd
FROM holdfast.effect e
WHERE e.kind <> 'model' AND e.state IN ('DONE', 'FAILED', 'UNKNOWN');

-- Somebody took a session's record away. Told before the first line is written.
CREATE FUNCTION holdfast.note_export(p jsonb, p_body bytea) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, holdfast, pg_temp AS $$
    SELECT holdfast.key_of(p->>'session_id');
    SELECT holdfast.say_operation(p, 'ledger_exported', p_body)
$$;
REVOKE ALL ON FUNCTION holdfast.note_export(jsonb, bytea) FROM PUBLIC;

GRANT SELECT ON holdfast.spending TO holdfast_app, holdfast_auditor;
GRANT SELECT (agent, labels) ON holdfast.session TO holdfast_auditor;
GRANT EXECUTE ON FUNCTION holdfast.note_export(jsonb, bytea) TO holdfast_app, holdfast_auditor;
