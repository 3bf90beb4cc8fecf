-- What migrating needs besides the files of schema/.

-- name: lock_migrations
-- One migration at a time per database; waiting for a busy table gives up rather than stop a live system.
SELECT pg_advisory_xact_lock(4745230147), set_config('lock_timeout', '15s', true)

-- name: become_owner
SET LOCAL ROLE holdfast_owner

-- name: has_schema
SELECT to_regclass('holdfast.schema_version') IS NOT NULL

-- name: schema_version
SELECT coalesce(max(version), 0) FROM holdfast.schema_version

-- name: note_applied
INSERT INTO holdfast.schema_version (version, name, digest, compatible_from) VALUES ($1, $2, $3, $4)

-- name: bound
SELECT cluster_id, namespace FROM holdfast.meta

-- name: make_partitions
SELECT * FROM holdfast.make_partitions($1)
