SELECT *
FROM steps
WHERE engagement_id = ?
ORDER BY started_at, path, visit, step_id
