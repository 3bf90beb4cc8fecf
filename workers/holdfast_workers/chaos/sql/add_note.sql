INSERT INTO chaos.note (intent, effect_id) VALUES ($1, $2) RETURNING id
