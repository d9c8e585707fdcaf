SELECT
    coalesce(key, '(outside)') AS step, calls, input_tokens, output_tokens, total_tokens, cost_usd, unpriced_calls
FROM usage_by('step', /* chosen */)
ORDER BY total_tokens DESC NULLS LAST, step
LIMIT 50
