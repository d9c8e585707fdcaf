SELECT
    coalesce(key, '(outside)') AS name, engagements, calls, input_tokens, output_tokens, total_tokens, cost_usd, unpriced_calls,
    cost_usd / nullif(engagements, 0) AS cost_each_usd
FROM usage_by('engagement', /* chosen */)
ORDER BY total_tokens DESC NULLS LAST, name
LIMIT 50
