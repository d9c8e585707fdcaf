SELECT *
FROM waits
WHERE engagement_id = $engagement_id
  AND occurred_ns BETWEEN $low AND $high
ORDER BY asked_at, step_id
