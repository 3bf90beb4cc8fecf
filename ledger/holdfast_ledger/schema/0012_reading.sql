-- compatible from: 1
-- Reading across sessions: what an auditor asks for, what a log collector takes away, what it all cost.

-- Queries and the feed go by when an entry was written, on the database's clock.
CREATE INDEX entry_by_time ON holdfast.entry (recorded_at);
CREATE INDEX entry_by_approver ON holdfast.entry (actor) WHERE kind = 'approval_decided';

-- What a call of this tool costs by its session's catalogue, which may be nothing; null where it does not say.
CREATE FUNCTION holdfast.declared_cost(catalogue bytea, tool text) RETURNS numeric
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SECURITY DEFINER SET search_path = pg_catalog, holdfast, pg_temp AS $$
BEGIN
    RETURN (
        SELECT coalesce((card->>'cost_usd')::numeric, 0)
        FROM json_array_elements(convert_from(catalogue, 'UTF8')::json->'tools') AS card
        WHERE card->>'name' = tool
    );
EXCEPTION WHEN data_exception OR cardinality_violation THEN
    RETURN NULL;
END
$$;
REVOKE ALL ON FUNCTION holdfast.declared_cost(bytea, text) FROM PUBLIC;

-- Whatever was paid for: one row for each recorded model turn, each model call that failed for good, and each tool
-- call that ended. usd: null where nobody knows. A call that was cancelled before it ran cost nothing and is no row;
-- one whose attempts were all lost cost an unknown number of times what its tool declares. lost_attempts: model calls
-- whose answers were lost, and were billed perhaps; assumed_usd: what limits count for them, null where nobody knows.
CREATE VIEW holdfast.spending AS
SELECT
    t.session_key, coalesce(t.model_answered, t.model_asked) AS model, NULL::text AS tool, t.recorded_at AS at,
    1 AS turns, 0 AS calls, t.input_tokens, t.output_tokens, t.cache_read_tokens, t.cache_write_tokens, t.usd,
    t.lost_attempts, CASE t.lost_attempts WHEN 0 THEN 0 ELSE t.assumed_usd END AS assumed_usd
FROM holdfast.turn t
UNION ALL
SELECT
    e.session_key, CASE e.kind WHEN 'model' THEN s.model END, e.tool, e.settled_at, 0,
    CASE e.kind WHEN 'model' THEN 0 ELSE 1 END, 0, 0, 0, 0,
    coalesce(e.usd, CASE WHEN holdfast.declared_cost(c.body, e.tool) = 0 THEN 0 END),
    l.attempts, CASE l.attempts WHEN 0 THEN 0 END
FROM holdfast.effect e
JOIN holdfast.session s USING (session_key)
LEFT JOIN holdfast.catalogue c ON c.digest = s.catalogue_digest AND e.usd IS NULL AND e.kind <> 'model'
CROSS JOIN LATERAL (
    SELECT count(*)::integer AS attempts FROM holdfast.attempt a WHERE a.effect_id = e.effect_id AND a.cost_unknown
) l
WHERE e.state IN ('FAILED', 'UNKNOWN') OR e.state = 'DONE' AND e.kind <> 'model';

-- Somebody took a session's record away. Told before the first line is written.
CREATE FUNCTION holdfast.note_export(p jsonb, p_body bytea) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, holdfast, pg_temp AS $$
    SELECT holdfast.key_of(p->>'session_id');
    SELECT holdfast.say_operation(p, 'ledger_exported', p_body)
$$;
REVOKE ALL ON FUNCTION holdfast.note_export(jsonb, bytea) FROM PUBLIC;

GRANT SELECT ON holdfast.spending TO holdfast_app, holdfast_auditor;
GRANT SELECT (agent, labels) ON holdfast.session TO holdfast_auditor;
GRANT EXECUTE ON FUNCTION holdfast.note_export(jsonb, bytea), holdfast.declared_cost(bytea, text) TO holdfast_app, holdfast_auditor;
