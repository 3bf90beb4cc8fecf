SELECT intent, effect_id FROM chaos.note ORDER BY id
