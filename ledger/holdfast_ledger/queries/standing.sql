-- How many things stand where, for gauges: one round trip, answered from the indexes of what is unfinished.

-- name: standing
SELECT 'approval' AS what, NULL AS status, count(*) AS number
FROM holdfast.approval WHERE state = 'pending'
UNION ALL
SELECT 'effect', NULL, count(*)
FROM holdfast.effect WHERE state = 'UNKNOWN'
UNION ALL
SELECT 'session', status, count(*)
FROM holdfast.session WHERE status IN ('running', 'idle', 'waiting', 'held', 'closing')
GROUP BY status
