-- Calls have rows of their own, with more in them.
SELECT *
FROM events
WHERE engagement_id = ?
  AND kind NOT IN ('llm_call', 'tool_call')
ORDER BY occurred_at, kind, name
