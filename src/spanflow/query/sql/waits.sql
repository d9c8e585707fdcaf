-- A breakpoint is the turn's own.
SELECT * REPLACE (CASE WHEN kind = 'interrupt' THEN step_id END AS step_id)
FROM waits
WHERE engagement_id = $engagement_id
  AND occurred_ns BETWEEN $low AND $high
ORDER BY asked_at, interrupt_id, span_id
