-- The streaming turn, for watchers.

-- name: write_chunks
-- Insert a batch and wake the watchers of its sessions.
WITH written AS (
    INSERT INTO holdfast.chunk (session_id, turn, token, seq, kind, body)
    SELECT * FROM unnest($1::text[], $2::integer[], $3::integer[], $4::integer[], $5::text[], $6::bytea[])
    ON CONFLICT DO NOTHING
)
SELECT pg_notify(channel, '') FROM unnest($7::text[]) AS channel

-- name: drop_chunks
-- Chunks of turns that are recorded now.
DELETE FROM holdfast.chunk USING unnest($1::text[], $2::integer[]) AS recorded (session_id, turn)
WHERE chunk.session_id = recorded.session_id AND chunk.turn = recorded.turn

-- name: drop_old_chunks
-- What dead workers left behind.
DELETE FROM holdfast.chunk WHERE at < clock_timestamp() - $1::interval
