SELECT
    coalesce(key, '(outside)') AS step, total_tokens, replayed_tokens, retried_tokens, forked_tokens,
    (coalesce(replayed_tokens, 0) + coalesce(retried_tokens, 0) + coalesce(forked_tokens, 0)) / nullif(total_tokens, 0) AS share
FROM usage_by('step', /* chosen */)
ORDER BY share DESC NULLS LAST, step
LIMIT 50
