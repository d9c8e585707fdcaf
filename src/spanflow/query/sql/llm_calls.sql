SELECT *
FROM llm_calls
WHERE engagement_id = ?
ORDER BY started_at, span_id
