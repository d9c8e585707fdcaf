SELECT
    coalesce(key, '(outside)') AS step, replayed_tokens, retried_tokens, forked_tokens
FROM usage_by('step', /* chosen */)
WHERE coalesce(replayed_tokens, 0) + coalesce(retried_tokens, 0) + coalesce(forked_tokens, 0) > 0
ORDER BY coalesce(replayed_tokens, 0) + coalesce(retried_tokens, 0) + coalesce(forked_tokens, 0) DESC, step
LIMIT 15
