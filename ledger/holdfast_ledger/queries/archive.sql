-- Sessions on their way into files.

-- name: archivable
-- Sessions that ended before a moment, or began and did not end, with what stops them from being archived.
SELECT s.id, holdfast.why_not_archive(s) AS why_not
FROM holdfast.session s
WHERE coalesce(s.ended_at, s.registered_at) < $1 AND NOT s.id ^@ '@'
  AND NOT EXISTS (SELECT FROM holdfast.archive a WHERE a.session_key = s.session_key)
ORDER BY s.session_key

-- name: session_records
-- What stands beside a session's chain, one row each as JSON, in the order its tables could be filled again.
WITH own AS (SELECT effect_id FROM holdfast.effect WHERE session_key = $1)
SELECT 'session' AS record, row_to_json(r)::text AS row FROM holdfast.session r WHERE r.session_key = $1
UNION ALL (SELECT 'content', row_to_json(r)::text FROM holdfast.content r WHERE r.session_key = $1 ORDER BY digest)
UNION ALL (SELECT 'message', row_to_json(r)::text FROM holdfast.message r WHERE r.session_key = $1 ORDER BY turn, at)
UNION ALL (SELECT 'saga', row_to_json(r)::text FROM holdfast.saga r WHERE r.session_key = $1 ORDER BY opened_at)
UNION ALL (SELECT 'effect', row_to_json(r)::text FROM holdfast.effect r WHERE r.session_key = $1 ORDER BY planned_at)
UNION ALL (
    SELECT 'attempt', row_to_json(r)::text FROM holdfast.attempt r JOIN own USING (effect_id) ORDER BY claimed_at
)
UNION ALL (SELECT 'turn', row_to_json(r)::text FROM holdfast.turn r WHERE r.session_key = $1 ORDER BY turn)
UNION ALL (
    SELECT 'approval', row_to_json(r)::text FROM holdfast.approval r WHERE r.session_key = $1 ORDER BY asked_at
)

-- name: archive_session
SELECT holdfast.archive_session($1, $2, $3)

-- name: wait_for_tables
SELECT set_config('lock_timeout', '15s', true)

-- name: drop_empty_partitions
SELECT * FROM holdfast.drop_empty_partitions()

-- name: archived_files
SELECT session_id, file, file_digest FROM holdfast.archive ORDER BY session_key

-- name: archived
SELECT file, at, archived_by AS by FROM holdfast.archive WHERE session_id = $1
