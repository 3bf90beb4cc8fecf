-- Reading the entries of all sessions.

-- name: search
-- Newest first. Each filter is off when null. An approver's entries are all of the calls they decided, not only the
-- decision.
SELECT s.id AS session_id, s.agent, e.session_key, e.seq, e.fact_key, e.kind, e.at, e.recorded_at, e.turn, e.call,
       e.effect_id, e.token, e.saga_id, e.tool, e.tier, e.outcome, e.actor, e.args_digest, e.latency_us, e.key_id,
       e.body, e.prev, e.hash
FROM holdfast.entry e JOIN holdfast.session s USING (session_key)
WHERE ($1::text IS NULL OR s.id = $1)
  AND ($2::text IS NULL OR s.agent = $2)
  AND ($3::jsonb IS NULL OR s.labels @> $3)
  AND ($4::text[] IS NULL OR e.kind = ANY($4))
  AND ($5::text[] IS NULL OR e.tool = ANY($5))
  AND ($6::text[] IS NULL OR e.tier = ANY($6))
  AND ($7::text[] IS NULL OR e.outcome = ANY($7))
  AND ($8::text IS NULL OR e.actor = $8)
  AND ($9::text IS NULL OR (e.session_key, e.call, e.args_digest) IN (
      SELECT d.session_key, d.call, d.args_digest FROM holdfast.entry d
      WHERE d.kind = 'approval_decided' AND d.actor = $9
  ))
  AND ($10::timestamptz IS NULL OR e.recorded_at >= $10)
  AND ($11::timestamptz IS NULL OR e.recorded_at < $11)
  AND ($12::timestamptz IS NULL
       OR e.recorded_at <= $12 AND (e.recorded_at, e.session_key, e.seq) < ($12, $13::uuid, $14::bigint))
ORDER BY e.recorded_at DESC, e.session_key DESC, e.seq DESC LIMIT $15

-- name: feed
-- Oldest first: what stands after one position and was written before a time.
SELECT s.id AS session_id, s.agent, e.session_key, e.seq, e.fact_key, e.kind, e.at, e.recorded_at, e.turn, e.call,
       e.effect_id, e.token, e.saga_id, e.tool, e.tier, e.outcome, e.actor, e.args_digest, e.latency_us, e.key_id,
       e.body, e.prev, e.hash
FROM holdfast.entry e JOIN holdfast.session s USING (session_key)
WHERE e.recorded_at >= $1 AND e.recorded_at < $4
  AND (e.recorded_at, e.session_key, e.seq) > ($1, $2::uuid, $3::bigint)
ORDER BY e.recorded_at, e.session_key, e.seq LIMIT $5

-- name: transactions
-- A moment (now() is before the statement's snapshot), the first transaction that had not begun then, and the
-- oldest one that still runs.
SELECT now() AS at, pg_snapshot_xmax(s)::text AS next, pg_snapshot_xmin(s)::text AS oldest
FROM pg_current_snapshot() AS s
