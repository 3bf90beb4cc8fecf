-- The stop button: what is stopped, and what still runs.

-- name: disable_tool
SELECT changed, reason, by, at FROM holdfast.disable_tool($1, $2)

-- name: enable_tool
SELECT changed, reason, by, at FROM holdfast.enable_tool($1, $2)

-- name: note_export
SELECT holdfast.note_export($1, $2)

-- name: stopped_tools
SELECT coalesce(k.tool, b.name) AS tool, k.reason, k.disabled_by, k.at AS disabled_at, b.open_until, b.failures
FROM holdfast.kill_switch k
FULL JOIN (SELECT name, open_until, failures FROM holdfast.breaker WHERE open_until > clock_timestamp()) b
    ON b.name = k.tool
ORDER BY 1

-- name: running_calls
-- Calls whose lease lives: of one tool, or of every tool above tier read ('*').
SELECT e.effect_id, s.id AS session_id, e.call, e.tool, e.lease_until
FROM holdfast.session s JOIN holdfast.effect e USING (session_key)
WHERE s.ended_at IS NULL AND s.status IN ('running', 'waiting', 'held', 'closing', 'idle')
  AND e.state = 'CLAIMED' AND e.kind = 'call' AND (e.tool = $1 OR $1 = '*' AND e.tier <> 'read')
ORDER BY e.first_claimed_at

-- name: ever_called
SELECT EXISTS (SELECT FROM holdfast.effect WHERE tool = $1) AS called
