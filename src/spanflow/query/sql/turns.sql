SELECT *
FROM turns
WHERE engagement_id = $engagement_id
ORDER BY started_at, turn_id
