-- Reads for the CLI and for watchers. Nothing here writes.

-- name: sessions
-- Newest first. Each filter is off when null.
SELECT id, agent, model, status, status_reason, status_at, requested_by, on_behalf_of, roles, tenant, labels,
       registered_at, opened_at, ended_at, first_run_id, catalogue_digest, turns, calls, input_tokens,
       output_tokens, cache_read_tokens, cache_write_tokens, usd, lost_attempts, assumed_tokens, assumed_usd
FROM holdfast.session
WHERE ($1::text[] IS NULL OR status = ANY($1))
  AND ($2::text IS NULL OR agent = $2)
  AND ($3::text IS NULL OR tenant = $3)
  AND ($4::jsonb IS NULL OR labels @> $4)
  AND ($5::timestamptz IS NULL OR registered_at >= $5)
  AND kind = 'session'
ORDER BY session_key DESC LIMIT $6

-- name: session
SELECT id, agent, model, status, status_reason, status_at, requested_by, on_behalf_of, roles, tenant, labels,
       registered_at, opened_at, ended_at, first_run_id, catalogue_digest, turns, calls, input_tokens,
       output_tokens, cache_read_tokens, cache_write_tokens, usd, lost_attempts, assumed_tokens, assumed_usd
FROM holdfast.session WHERE id = $1

-- name: session_ids
-- Ids that begin with a prefix; the id itself comes first.
SELECT id FROM holdfast.session WHERE id ^@ $1 AND (NOT id ^@ '@' OR $1 ^@ '@') ORDER BY id LIMIT $2

-- name: effect_ids
SELECT effect_id AS id FROM holdfast.effect WHERE effect_id ^@ $1 ORDER BY effect_id LIMIT $2

-- name: saga_ids
SELECT id FROM holdfast.saga WHERE id ^@ $1 ORDER BY id LIMIT $2

-- name: timeline
-- Entries after a sequence number, oldest first.
SELECT e.seq, e.kind, e.at, e.recorded_at, e.turn, e.call, e.effect_id, e.token, e.saga_id, e.tool, e.tier,
       e.outcome, e.actor, e.args_digest, e.latency_us, e.fact_key, e.body, e.hash
FROM holdfast.entry e JOIN holdfast.session s USING (session_key)
WHERE s.id = $1 AND e.seq > $2 ORDER BY e.seq LIMIT $3

-- name: content
-- Stored messages by digest.
SELECT c.digest, c.body FROM holdfast.content c JOIN holdfast.session s USING (session_key)
WHERE s.id = $1 AND c.digest = ANY($2::text[])

-- name: newest_head
-- The end of the branch that was written last.
SELECT m.head FROM holdfast.message m JOIN holdfast.session s USING (session_key)
WHERE s.id = $1 ORDER BY m.at DESC LIMIT 1

-- name: approvals
-- What was asked of people, oldest first; only what still waits, unless all is asked for.
SELECT s.id AS session_id, s.agent, a.call, a.digest, a.effect_id, a.tool_use_id, a.tool, a.tier, a.preview,
       a.asked_at, a.expires_at, a.state, a.decision, a.decided_at, a.decided_by, a.authenticated, a.reason,
       a.consumed_by
FROM holdfast.approval a JOIN holdfast.session s USING (session_key)
WHERE ($1::text IS NULL OR s.id = $1) AND (NOT $2 OR a.state = 'pending')
ORDER BY a.asked_at LIMIT $3

-- name: effects
-- Effects, oldest first. Each filter is off when null.
SELECT e.effect_id, s.id AS session_id, e.kind, e.turn, e.call, e.tool_use_id, e.tool, e.tool_version, e.tier,
       e.recovery, e.preview, e.fingerprint, e.saga_id,
       CASE WHEN holdfast.left_in_doubt(e.state, e.doubt, e.recovery, e.lease_until, g.state) THEN 'UNKNOWN'
            ELSE e.state END AS state, e.keys_refused, e.token, e.attempts_used, e.attempts_budget,
       e.doubt, e.worker, e.lease_until, e.planned_at, e.first_claimed_at, e.settled_at, e.outcome, e.undo_tool,
       e.latency_us, e.usd, octet_length(e.result) - CASE WHEN s.key_id IS NULL THEN 0 ELSE 72 END AS result_bytes,
       e.probes, e.probed_at, e.probe_said
FROM holdfast.effect e JOIN holdfast.session s USING (session_key) LEFT JOIN holdfast.saga g ON g.id = e.saga_id
WHERE ($1::text IS NULL OR s.id = $1)
  AND ($2::text[] IS NULL OR e.state = ANY($2) OR 'UNKNOWN' = ANY($2)
       AND holdfast.left_in_doubt(e.state, e.doubt, e.recovery, e.lease_until, g.state))
  AND ($3::text IS NULL OR e.tool = $3)
  AND ($4::timestamptz IS NULL OR e.planned_at >= $4)
  AND ($5::text IS NULL OR e.effect_id = $5)
  AND ($6::text IS NULL OR e.kind = $6)
ORDER BY e.session_key, e.turn, e.planned_at, e.call LIMIT $7

-- name: attempts
SELECT s.id AS session_id, a.token, a.worker, a.claimed_at, a.ended_at, a.state, a.reported, a.reported_at,
       a.latency_us, a.evidence
FROM holdfast.attempt a JOIN holdfast.effect e USING (effect_id) JOIN holdfast.session s USING (session_key)
WHERE a.effect_id = $1 ORDER BY a.token

-- name: sagas
SELECT g.id, s.id AS session_id, g.request, g.name, g.version, g.state, g.epoch, g.reason, g.opened_at, g.closed_at,
       count(e.effect_id) FILTER (
           WHERE e.state = 'DONE' AND e.tier <> 'read' AND u.state IS DISTINCT FROM 'DONE'
             AND e.waived IS DISTINCT FROM 'undone_by_hand'
       ) AS standing,
       count(e.effect_id) FILTER (WHERE u.state = 'DONE' OR e.waived = 'undone_by_hand') AS undone,
       count(e.effect_id) FILTER (
           WHERE holdfast.left_in_doubt(e.state, e.doubt, e.recovery, e.lease_until, g.state)
       ) AS unknown,
       count(e.effect_id) FILTER (
           WHERE e.state = 'DONE' AND e.undo_tool IS NOT NULL AND u.state IS DISTINCT FROM 'DONE'
       ) AS undoable
FROM holdfast.saga g
JOIN holdfast.session s USING (session_key)
LEFT JOIN holdfast.effect e ON e.saga_id = g.id AND e.kind = 'call'
LEFT JOIN holdfast.effect u ON u.undo_of = e.effect_id
WHERE ($1::text IS NULL OR s.id = $1) AND ($2::text[] IS NULL OR g.state = ANY($2))
GROUP BY g.id, s.id, s.session_key ORDER BY g.opened_at LIMIT $3

-- name: turns
SELECT t.turn, t.effect_id, t.head, t.next_head, t.digest, t.stop_reason, t.request_digest, t.model_asked, t.model_answered,
       t.input_tokens, t.output_tokens, t.cache_read_tokens, t.cache_write_tokens, t.usd, t.latency_us,
       t.recorded_at
FROM holdfast.turn t JOIN holdfast.session s USING (session_key)
WHERE s.id = $1 ORDER BY t.recorded_at

-- name: streaming_turn
-- The model call that runs now, or ran last: its newest intent or answer up to a sequence number.
SELECT e.kind, e.turn, e.token
FROM holdfast.entry e JOIN holdfast.session s USING (session_key)
WHERE s.id = $1 AND e.kind IN ('model_intent', 'model_turn') AND e.seq <= $2
ORDER BY e.seq DESC LIMIT 1

-- name: chunks
SELECT seq, kind, body FROM holdfast.chunk
WHERE session_id = $1 AND turn = $2 AND token = $3 AND seq > $4 ORDER BY seq
