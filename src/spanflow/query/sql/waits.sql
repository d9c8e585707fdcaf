SELECT *
FROM waits
WHERE engagement_id = ?
ORDER BY asked_at, step_id
