-- The effect protocol: claim, renew, record. Each statement is one call of one function.

-- name: claim_effect
SELECT verdict, code, reason, retry_after, token, attempt, probe, args, state, outcome, committed, keys_refused
FROM holdfast.claim_effect($1, $2, $3, $4, $5, $6, $7, $8, $9)

-- name: lost_attempts
-- Attempts at a model turn that may have been billed, with nobody to tell how much.
SELECT count(*) FROM holdfast.attempt WHERE effect_id = $1 AND cost_unknown

-- name: renew_effect
SELECT holdfast.renew_effect($1, $2, $3)

-- name: refuse_key
SELECT holdfast.refuse_key($1, $2, $3)

-- name: record_effect
SELECT accepted, state, outcome, committed FROM holdfast.record_effect($1, $2, $3, $4, $5, $6, $7, $8)

-- name: resolve_effect
SELECT accepted, state, outcome, committed FROM holdfast.resolve_effect($1, $2, $3, $4, $5, $6)

-- name: doubt
SELECT s.id AS session_id, e.state, e.outcome, e.args, e.keys_refused
FROM holdfast.effect e JOIN holdfast.session s USING (session_key) WHERE e.effect_id = $1

-- name: note_probe
SELECT holdfast.note_probe($1, $2)

-- name: end_when_stalled
SELECT set_config('idle_in_transaction_session_timeout', $1, true)

-- name: record_turn
SELECT accepted, state, outcome, committed FROM holdfast.record_turn($1, $2, $3, $4, $5, $6, $7)
