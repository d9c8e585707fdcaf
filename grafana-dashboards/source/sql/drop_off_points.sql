SELECT
    coalesce(step, '(before any step)') AS step,
    coalesce(sum(engagements) FILTER (status = 'abandoned'), 0)::BIGINT AS abandoned,
    coalesce(sum(engagements) FILTER (status = 'failed'), 0)::BIGINT AS failed,
    coalesce(sum(engagements) FILTER (status = 'interrupted'), 0)::BIGINT AS interrupted
FROM drop_offs(/* chosen */)
GROUP BY ALL
ORDER BY sum(engagements) DESC, step
LIMIT 15
