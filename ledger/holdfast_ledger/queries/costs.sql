-- What it cost. One statement, one report.

-- name: costs
-- By agent, model, tool, session, label or day (UTC) as $1 says; what belongs to none has a null key. A session with
-- two labels counts under both, and in the row `total` once. $4: where not null, the price table by which turns are
-- priced that had no price when they were recorded: the newest one begun of the model that answered, the user's own
-- first, a snapshot's own before its model's.
WITH spent AS (
    SELECT * FROM holdfast.spending p
    WHERE ($2::timestamptz IS NULL OR p.at >= $2) AND ($3::timestamptz IS NULL OR p.at < $3)
), priced AS (
    SELECT p.*, p.usd IS NULL AND n.usd IS NOT NULL AS repriced, coalesce(p.usd, n.usd) AS cost
    FROM spent p
    LEFT JOIN LATERAL (
        SELECT (p.input_tokens * r.input + p.output_tokens * r.output + p.cache_write_tokens * r.cache_write
                + p.cache_read_tokens * r.cache_read) / 1000000 AS usd
        FROM jsonb_to_recordset($4::jsonb) AS r (
            model text, own boolean, since date, above bigint, input numeric, output numeric, cache_write numeric,
            cache_read numeric
        )
        WHERE p.usd IS NULL AND p.turns = 1
          AND r.model IN (p.model, regexp_replace(p.model, '-\d{8}$', ''))
          AND r.since <= (p.at AT TIME ZONE 'UTC')::date
          AND p.input_tokens + p.cache_read_tokens + p.cache_write_tokens > r.above
        ORDER BY r.model = p.model DESC, r.own DESC, r.since DESC, r.above DESC LIMIT 1
    ) n ON true
), keyed AS (
    SELECT false AS total,
           CASE $1
               WHEN 'agent' THEN s.agent
               WHEN 'model' THEN p.model
               WHEN 'tool' THEN p.tool
               WHEN 'session' THEN s.id
               WHEN 'label' THEN l.key || '=' || l.value
               WHEN 'day' THEN to_char(p.at AT TIME ZONE 'UTC', 'YYYY-MM-DD')
           END AS key,
           p.*
    FROM priced p
    JOIN holdfast.session s USING (session_key)
    LEFT JOIN LATERAL jsonb_each_text(CASE $1 WHEN 'label' THEN s.labels ELSE '{}' END) l ON true
    UNION ALL
    SELECT true, NULL, p.* FROM priced p
)
SELECT total, key, sum(turns) AS turns, sum(calls) AS calls, sum(input_tokens)::bigint AS input_tokens,
       sum(output_tokens)::bigint AS output_tokens, sum(cache_read_tokens)::bigint AS cache_read_tokens,
       sum(cache_write_tokens)::bigint AS cache_write_tokens,
       trim_scale(coalesce(sum(cost), 0)) AS known_usd, count(*) FILTER (WHERE cost IS NULL) AS unpriced,
       count(*) FILTER (WHERE repriced) AS repriced, sum(lost_attempts) AS lost_attempts,
       CASE WHEN count(*) = count(assumed_usd) THEN trim_scale(sum(assumed_usd)) END AS assumed_usd
FROM keyed
GROUP BY total, key
ORDER BY total, CASE WHEN $1 = 'day' THEN key END, sum(cost) DESC NULLS LAST, key
