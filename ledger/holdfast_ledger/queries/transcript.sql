-- What the model said and was told.

-- name: transcript
-- The messages from behind one head ($3) up to another, along its own branch, oldest first; all, where the branch
-- does not pass there. Each step looks up one row by its key: LIMIT keeps the planner from joining with the whole
-- table, which it does while it believes that the table is small.
WITH RECURSIVE line AS (
    SELECT m.head, m.parent, m.role, m.digest, m.turn, m.message_id, 0 AS distance, m.session_key
    FROM holdfast.message m JOIN holdfast.session s USING (session_key)
    WHERE s.id = $1 AND m.head = $2
    UNION ALL
    SELECT before.*, line.distance + 1, line.session_key
    FROM line CROSS JOIN LATERAL (
        SELECT m.head, m.parent, m.role, m.digest, m.turn, m.message_id FROM holdfast.message m
        WHERE m.session_key = line.session_key AND m.head = line.parent AND line.parent <> $3 LIMIT 1
    ) AS before
)
SELECT line.head, line.parent, line.role, line.turn, line.message_id, line.digest, stored.body, made.context,
       made.counted, made.stop_reason
FROM line CROSS JOIN LATERAL (
    SELECT c.body FROM holdfast.content c
    WHERE c.session_key = line.session_key AND c.digest = line.digest LIMIT 1
) AS stored
LEFT JOIN LATERAL (
    SELECT t.input_tokens + t.cache_read_tokens + t.cache_write_tokens + t.output_tokens AS context,
           t.counted, t.stop_reason
    FROM holdfast.turn t
    WHERE t.session_key = line.session_key AND t.turn = line.turn AND t.next_head = line.head LIMIT 1
) AS made ON line.role = 'assistant'
ORDER BY line.distance DESC

-- name: shown_results
-- What the model sees of settled calls, by effect id.
SELECT effect_id, outcome, shown, CASE WHEN shown IS NULL THEN result END AS result
FROM holdfast.effect WHERE effect_id = ANY($1::text[])

-- name: call_result
-- The whole result of a call; of two branches, the one planned last.
SELECT e.effect_id, e.result FROM holdfast.effect e JOIN holdfast.session s USING (session_key)
WHERE s.id = $1 AND e.call = $2 AND e.kind = 'call' ORDER BY e.planned_at DESC LIMIT 1
