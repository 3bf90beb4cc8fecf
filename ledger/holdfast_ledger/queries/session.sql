-- Sessions and what they are told. Each statement is one call of one function.

-- name: bind
SELECT bound_cluster_id, bound_namespace FROM holdfast.bind($1, $2)

-- name: schema_versions
SELECT version, name, digest, compatible_from, applied_at FROM holdfast.schema_version ORDER BY version

-- name: register_session
SELECT fresh, status, first_run_id FROM holdfast.register_session($1)

-- name: store_content
SELECT holdfast.store_content($1, $2, $3)

-- name: open_session
SELECT catalogue_digest, key_id, master_id, wrapped FROM holdfast.open_session($1, $2, $3, $4, $5, $6)

-- name: refuse_session
SELECT holdfast.refuse_session($1, $2, $3)

-- name: catalogue
SELECT body FROM holdfast.catalogue WHERE digest = $1

-- name: append_facts
SELECT holdfast.append_facts($1, $2, $3, $4)

-- name: close_session
SELECT holdfast.close_session($1, $2, $3, $4, $5)

-- name: living_sessions
-- Those that have not ended, oldest first, after a cursor; one that was not opened yet is of any queue.
SELECT s.id, s.session_key FROM holdfast.session s
WHERE s.ended_at IS NULL AND s.kind = 'session' AND coalesce(s.task_queue, $1) = $1
  AND ($2::uuid IS NULL OR s.session_key > $2)
ORDER BY s.session_key LIMIT $3

-- name: unended
SELECT s.id FROM holdfast.session s WHERE s.id = ANY ($1::text[]) AND s.ended_at IS NULL ORDER BY s.session_key
