SELECT
    coalesce(key, '(unknown)') AS model, calls, input_tokens, output_tokens, total_tokens, cost_usd, unpriced_calls
FROM usage_by('model', /* chosen */)
ORDER BY total_tokens DESC NULLS LAST, model
LIMIT 50
