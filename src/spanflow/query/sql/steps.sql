SELECT *
FROM steps
WHERE engagement_id = $engagement_id
  AND occurred_ns BETWEEN $low AND $high
ORDER BY started_at, path, visit, step_id
