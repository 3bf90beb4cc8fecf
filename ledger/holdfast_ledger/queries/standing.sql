-- How many things stand where, for gauges: one round trip, answered from the indexes of what is unfinished.

-- name: standing
SELECT 'approval' AS what, NULL AS status, count(*) AS number
FROM holdfast.approval WHERE state = 'pending'
UNION ALL
SELECT 'effect', NULL, (SELECT count(*) FROM holdfast.effect WHERE state = 'UNKNOWN') + (
    SELECT count(*) FROM holdfast.saga g JOIN holdfast.effect e ON e.saga_id = g.id
    WHERE g.state = 'HELD' AND e.state <> 'UNKNOWN'
      AND holdfast.left_in_doubt(e.state, e.doubt, e.recovery, e.lease_until, g.state)
)
UNION ALL
SELECT 'session', status, count(*)
FROM holdfast.session WHERE status IN ('running', 'idle', 'waiting', 'held', 'closing') AND kind = 'session'
GROUP BY status
UNION ALL
SELECT 'saga', state, count(*)
FROM holdfast.saga WHERE state NOT IN ('COMMITTED', 'ABORTED')
GROUP BY state
