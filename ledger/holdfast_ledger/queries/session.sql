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
