-- Chains and their entries, as they are hashed, and what guards them.

-- name: chains
-- To be read in one snapshot with their entries, since living sessions grow. `archive_*`: where the entries begin
-- that are still here. `since_seq`: what the checkpoints up to number $4 last said of the chain.
SELECT s.id, c.session_key, c.seq, c.head, r.seq AS archive_seq, r.head AS archive_head, r.file AS archive_file,
       since.seq AS since_seq
FROM holdfast.chain c
JOIN holdfast.session s USING (session_key)
LEFT JOIN holdfast.archive r USING (session_key)
LEFT JOIN LATERAL (
    SELECT a.seq FROM holdfast.checkpoint_advance a
    WHERE a.session_key = c.session_key AND a.number <= $4 ORDER BY a.seq DESC LIMIT 1
) since ON $4 > 0
WHERE ($1::text IS NULL OR s.id = $1) AND ($2::uuid IS NULL OR c.session_key > $2)
ORDER BY c.session_key LIMIT $3

-- name: chain_entries
-- Each session's first $3 entries from a number on; in order within a session.
SELECT e.*
FROM unnest($1::uuid[], $2::bigint[]) AS wanted (session_key, first)
CROSS JOIN LATERAL (
    SELECT o.session_key, o.seq, o.version, o.fact_key, o.fact_digest, o.kind,
           (extract(epoch FROM o.at) * 1000000)::bigint, (extract(epoch FROM o.recorded_at) * 1000000)::bigint,
           o.turn, o.call, o.effect_id, o.token, o.saga_id, o.tool, o.tier, o.outcome, o.actor, o.args_digest,
           o.latency_us, o.key_id, o.body, o.prev, o.hash
    FROM holdfast.entry o WHERE o.session_key = wanted.session_key AND o.seq >= wanted.first
    ORDER BY o.seq LIMIT $3
) e

-- name: chain_claims
-- What checkpoints say of these sessions.
SELECT session_key, seq, head FROM holdfast.checkpoint_advance WHERE session_key = ANY($1::uuid[])

-- name: lost_sessions
-- Sessions that a checkpoint names and the database does not have.
SELECT a.session_id, max(a.seq) AS seq, max(a.number) AS number
FROM holdfast.checkpoint_advance a
WHERE ($1::text IS NULL OR a.session_id = $1) AND NOT EXISTS (
    SELECT FROM holdfast.chain c JOIN holdfast.session s USING (session_key) WHERE c.session_key = a.session_key
)
GROUP BY a.session_key, a.session_id ORDER BY a.session_key

-- name: archives
-- Each archive on record, with what `@operations` says of it.
SELECT r.session_id, r.seq, r.head, r.file, r.file_digest, e.body AS told
FROM holdfast.archive r
LEFT JOIN holdfast.session operations ON operations.id = '@operations'
LEFT JOIN holdfast.entry e ON e.session_key = operations.session_key
    AND e.fact_key = '@operation/archive/' || r.session_key
ORDER BY r.session_key

-- name: guarded_tables
-- The tables that only grow, partitions and all, and the triggers on them that refuse in every mode.
SELECT c.oid::regclass::text AS name,
       array_remove(array_agg(
           CASE WHEN t.tgenabled = 'A' AND p.pronamespace = 'holdfast'::regnamespace
                     AND p.proname IN ('refuse_change', 'refuse_loss') THEN t.tgname::text END
       ), NULL) AS guards
FROM pg_class c
LEFT JOIN pg_inherits i ON i.inhrelid = c.oid
LEFT JOIN pg_trigger t ON t.tgrelid = c.oid
LEFT JOIN pg_proc p ON p.oid = t.tgfoid
WHERE c.oid IN (
    'holdfast.entry'::regclass, 'holdfast.checkpoint'::regclass, 'holdfast.checkpoint_advance'::regclass,
    'holdfast.archive'::regclass
) OR i.inhparent = 'holdfast.entry'::regclass
GROUP BY c.oid ORDER BY c.oid

-- name: function_sources
SELECT p.oid::regprocedure::text AS name, p.prosrc AS source
FROM pg_proc p WHERE p.pronamespace = 'holdfast'::regnamespace AND p.prosrc <> '' ORDER BY 1

-- name: powers
-- What the app and the auditor may do to a table that only grows, beyond reading it.
SELECT r.rolname::text AS role, c.oid::regclass::text AS name, power
FROM pg_class c LEFT JOIN pg_inherits i ON i.inhrelid = c.oid
CROSS JOIN pg_roles r
CROSS JOIN unnest(ARRAY['INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'TRIGGER']) AS power
WHERE (c.oid IN (
    'holdfast.entry'::regclass, 'holdfast.chain'::regclass, 'holdfast.checkpoint'::regclass,
    'holdfast.checkpoint_advance'::regclass, 'holdfast.archive'::regclass
) OR i.inhparent = 'holdfast.entry'::regclass)
AND r.rolname IN ('holdfast_app', 'holdfast_auditor') AND (
    has_table_privilege(r.oid, c.oid, power)
    OR power IN ('INSERT', 'UPDATE') AND has_any_column_privilege(r.oid, c.oid, power)
)
UNION ALL
SELECT r.rolname::text, 'holdfast_owner', 'SET ROLE'
FROM pg_roles r
WHERE r.rolname IN ('holdfast_app', 'holdfast_auditor') AND pg_has_role(r.oid, 'holdfast_owner', 'MEMBER')
ORDER BY 1, 2, 3
