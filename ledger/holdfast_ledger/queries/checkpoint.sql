-- Writing and reading checkpoints.

-- name: begin_checkpoint
SELECT holdfast.begin_checkpoint($1)

-- name: last_checkpoint
SELECT number, hash, clock_timestamp() - at AS age FROM holdfast.checkpoint ORDER BY number DESC LIMIT 1

-- name: advanced_chains
-- Chains that went on since a checkpoint last named them.
SELECT s.id AS session_id, c.session_key::text, c.seq, c.head
FROM holdfast.chain c JOIN holdfast.session s USING (session_key)
WHERE c.seq > 0 AND NOT EXISTS (
    SELECT FROM holdfast.checkpoint_advance a WHERE a.session_key = c.session_key AND a.seq >= c.seq
)
ORDER BY c.session_key

-- name: uncovered
-- How many chains went on since a checkpoint last named them, and how long ago the first of them did.
SELECT count(*) AS sessions, clock_timestamp() - min(e.recorded_at) AS age
FROM holdfast.chain c
CROSS JOIN LATERAL (
    SELECT coalesce(max(a.seq), 0) AS seq FROM holdfast.checkpoint_advance a WHERE a.session_key = c.session_key
) covered
JOIN holdfast.entry e ON e.session_key = c.session_key AND e.seq = covered.seq + 1

-- name: microseconds_now
SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint

-- name: append_checkpoint
SELECT holdfast.append_checkpoint(
    $1, to_timestamp(0) + $2::bigint * interval '1 microsecond', $3, $4, $5, $6, $7, $8, $9, $10, $11
)

-- name: checkpoints
SELECT number, version, (extract(epoch FROM at) * 1000000)::bigint AS at, prev, advances, root, key_id, hash, signature
FROM holdfast.checkpoint WHERE number > $1 ORDER BY number LIMIT $2

-- name: checkpoint_advances
SELECT number, session_id, session_key::text, seq, head
FROM holdfast.checkpoint_advance WHERE number = ANY($1::bigint[]) ORDER BY number, session_key

-- name: vouching
-- The checkpoints that name a session, and where they saw it.
SELECT c.number, c.version, (extract(epoch FROM c.at) * 1000000)::bigint AS at, c.prev, c.advances, c.root, c.key_id,
       c.hash, c.signature
FROM holdfast.checkpoint_advance a JOIN holdfast.checkpoint c USING (number)
WHERE a.session_key = $1 ORDER BY c.number
