-- Wrapped keys of sessions: read, wrapped anew, destroyed.

-- name: session_keys
SELECT s.id, s.key_id, k.master_id, k.wrapped, x.at AS erased_at, x.by AS erased_by
FROM holdfast.session s
LEFT JOIN holdfast.session_key k USING (session_key)
LEFT JOIN holdfast.erasure x USING (session_key)
WHERE s.id = ANY($1::text[])

-- name: erasure
SELECT x.at, x.by, x.reason FROM holdfast.erasure x JOIN holdfast.session s USING (session_key) WHERE s.id = $1

-- name: keys_to_rewrap
-- A page of the keys that another master key than the newest wraps.
SELECT k.session_key, s.id, k.key_id, k.master_id, k.wrapped
FROM holdfast.session_key k JOIN holdfast.session s USING (session_key)
WHERE k.master_id <> $1 AND ($2::uuid IS NULL OR k.session_key > $2)
ORDER BY k.session_key LIMIT $3

-- name: rewrap_key
SELECT holdfast.rewrap_key($1, $2, $3, $4) AS done

-- name: master_keys_in_use
SELECT master_id, count(*) AS sessions FROM holdfast.session_key GROUP BY master_id ORDER BY master_id

-- name: note_rotation
SELECT holdfast.note_rotation($1, $2)

-- name: note_contents_read
SELECT holdfast.note_contents_read($1, $2)

-- name: erase_session
SELECT fresh, at, by, reason FROM holdfast.erase_session($1, $2)

-- name: contents_readings
-- From the chain of operations, whose bodies are plain JSON.
SELECT e.actor AS by, convert_from(e.body, 'UTF8')::json->>'command' AS command, e.at
FROM holdfast.entry e JOIN holdfast.session s USING (session_key)
WHERE s.id = '@operations' AND e.kind = 'contents_read' AND convert_from(e.body, 'UTF8')::jsonb->'sessions' ? $1
ORDER BY e.seq
