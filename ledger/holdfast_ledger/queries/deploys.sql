-- What the code of a build must still have.

-- name: needed_code
-- By open saga of a task queue: its own body, the undos of what stands, and the tools of what is in doubt.
SELECT DISTINCT g.opened_at, g.id AS saga_id, s.id AS session_id, g.state, g.name, g.version, g.source,
       s.catalogue_digest, e.undo_tool, e.undo_version, e.tool
FROM holdfast.saga g
JOIN holdfast.session s USING (session_key)
LEFT JOIN LATERAL (
    SELECT o.undo_tool, o.undo_version, CASE WHEN o.state <> 'DONE' THEN o.tool END AS tool
    FROM holdfast.effect o
    WHERE o.saga_id = g.id AND o.kind = 'call' AND o.tier <> 'read' AND o.waived IS NULL
      AND (o.state IN ('DONE', 'CLAIMED', 'UNKNOWN') OR o.state = 'OPEN' AND o.doubt)
      AND NOT EXISTS (SELECT FROM holdfast.effect u WHERE u.undo_of = o.effect_id AND u.state = 'DONE')
) AS e ON true
WHERE g.state NOT IN ('COMMITTED', 'ABORTED') AND NOT g.build_waived AND s.task_queue = $1
ORDER BY g.opened_at, g.id

-- name: waive_build
SELECT holdfast.waive_build($1, $2) AS known
