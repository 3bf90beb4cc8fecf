-- Sagas: opened, unwound, held and resolved. What moves one is a function; the rest are reads.

-- name: claim_planned
SELECT verdict, code, reason, retry_after, token, attempt, probe, args, state, outcome, committed, keys_refused
FROM holdfast.claim_planned($1, $2, $3, $4, $5, $6, $7, $8, $9)

-- name: claim_to_settle
SELECT verdict, code, reason, retry_after, token, attempt, probe, args, state, outcome, committed, keys_refused
FROM holdfast.claim_to_settle($1, $2, $3, $4, $5)

-- name: open_saga
SELECT code, said, state, epoch FROM holdfast.open_saga($1, $2, $3, $4, $5)

-- name: move_saga
SELECT code, said, state, epoch FROM holdfast.move_saga($1, $2, $3, $4, $5)

-- name: begin_unwind
SELECT code, said, state, epoch FROM holdfast.begin_unwind($1)

-- name: end_unwind
SELECT code, said, state, epoch FROM holdfast.end_unwind($1)

-- name: hold_saga
SELECT holdfast.hold_saga($1)

-- name: resolve_saga
SELECT code, said, state, epoch FROM holdfast.resolve_saga($1, $2, $3)

-- name: saga_run
-- A saga as its own workflow, and those who help it, need it.
SELECT g.id, s.id AS session_id, g.state, g.epoch, g.reason, g.name, g.version, g.parent, g.goal, g.owner, g.owner_run,
       g.input, g.salt, g.result, g.passed_pivot_at IS NOT NULL AS past_pivot, s.catalogue_digest
FROM holdfast.saga g JOIN holdfast.session s USING (session_key)
WHERE g.id = $1

-- name: saga_steps
-- Steps above tier read that stood, stand or may stand, newest first; those that may still land before them.
SELECT e.effect_id, e.call, e.tool, e.tool_version, e.tier, e.recovery, e.state, e.state = 'OPEN' AS doubt,
       CASE e.state WHEN 'CLAIMED' THEN e.lease_until - clock_timestamp() END AS lease_left, e.settled_order,
       e.undo_tool, e.undo_version, e.undo_args IS NOT NULL AS undo_args, e.settle_tried, e.waived, e.pivot,
       coalesce(clock_timestamp() <= e.first_claimed_at + e.key_ttl, false) AS key_lives,
       u.effect_id AS undo_id, u.tool AS undo_by, u.state AS undo_state, u.outcome AS undo_outcome,
       u.settled_at AS undone_at, u.attempts_used AS undo_attempts, e.settled_at
FROM holdfast.effect e LEFT JOIN holdfast.effect u ON u.undo_of = e.effect_id
WHERE e.saga_id = $1 AND e.kind = 'call' AND e.tier <> 'read'
  AND (e.state IN ('CLAIMED', 'DONE', 'UNKNOWN') OR e.state = 'OPEN' AND e.doubt)
ORDER BY e.settled_order DESC NULLS FIRST, e.planned_at DESC

-- name: step_arguments
-- What a step was sent with, and what its undo takes.
SELECT e.state, e.turn, e.call, e.tool, e.tier, e.fingerprint, e.args, e.args_salt, e.undo_args, e.keys_refused,
       s.id AS session_id
FROM holdfast.effect e JOIN holdfast.session s USING (session_key) WHERE e.effect_id = $1

-- name: effect_result
SELECT e.result, s.id AS session_id
FROM holdfast.effect e JOIN holdfast.session s USING (session_key) WHERE e.effect_id = $1

-- name: unfinished_sagas
-- Neither ended nor waiting for a person, oldest first, from a time and an id on.
SELECT g.id AS saga_id, s.id AS session_id, g.state, coalesce(g.owner, s.id) AS owner,
       coalesce(g.owner_run, s.first_run_id) AS owner_run, g.name IS NOT NULL AS code_defined,
       g.passed_pivot_at IS NOT NULL AS past_pivot, g.opened_at
FROM holdfast.saga g JOIN holdfast.session s USING (session_key)
WHERE g.state IN ('OPEN', 'COMMITTING', 'UNWINDING', 'FORWARD_PENDING')
  AND g.opened_at <= clock_timestamp() - $1::interval
  AND ($2::timestamptz IS NULL OR (g.opened_at, g.id) > ($2, $3::text))
ORDER BY g.opened_at, g.id LIMIT $4
