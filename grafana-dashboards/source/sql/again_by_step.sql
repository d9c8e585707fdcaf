SELECT
    coalesce(key, '(outside)') AS step, coalesce(replayed_tokens, 0) AS replayed_tokens,
    coalesce(retried_tokens, 0) AS retried_tokens, coalesce(forked_tokens, 0) AS forked_tokens
FROM usage_by('step', /* chosen */)
ORDER BY replayed_tokens + retried_tokens + forked_tokens DESC, step
LIMIT 15
