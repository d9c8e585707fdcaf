SELECT engagement_id, name, user_id, status, llm_calls, total_tokens, cost_usd, unpriced_calls
FROM engagements
WHERE /* in range */
ORDER BY cost_usd DESC NULLS LAST, total_tokens DESC NULLS LAST, engagement_id
LIMIT 50
