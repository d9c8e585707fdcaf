SELECT *
FROM llm_calls
WHERE engagement_id = $engagement_id
  AND occurred_ns BETWEEN $low AND $high
ORDER BY started_at, span_id
