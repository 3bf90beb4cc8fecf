-- Chains and their entries, as they are hashed.

-- name: chains
-- To be read in one snapshot with their entries, since living sessions grow.
SELECT s.id, c.session_key, c.seq, c.head
FROM holdfast.chain c JOIN holdfast.session s USING (session_key)
WHERE ($1::text IS NULL OR s.id = $1) AND ($2::uuid IS NULL OR c.session_key > $2)
ORDER BY c.session_key LIMIT $3

-- name: chain_entries
SELECT session_key, seq, version, fact_key, fact_digest, kind,
       (extract(epoch FROM at) * 1000000)::bigint, (extract(epoch FROM recorded_at) * 1000000)::bigint,
       turn, call, effect_id, token, saga_id, tool, tier, outcome, actor, args_digest, latency_us, key_id,
       body, prev, hash
FROM holdfast.entry WHERE session_key = ANY($1::uuid[]) ORDER BY session_key, seq
