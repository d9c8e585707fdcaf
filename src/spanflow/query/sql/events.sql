-- Calls have rows of their own, with more in them.
SELECT *
FROM events
WHERE engagement_id = $engagement_id
  AND span_ns BETWEEN $low AND $high
  AND kind NOT IN ('llm_call', 'tool_call')
ORDER BY occurred_at, kind, name
