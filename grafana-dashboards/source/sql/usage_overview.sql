WITH spent AS (
    SELECT
        sum(calls)::BIGINT AS calls, sum(total_tokens)::BIGINT AS total_tokens, sum(cost_usd)::DOUBLE AS cost_usd,
        sum(unpriced_calls)::BIGINT AS unpriced_calls, sum(calls_without_usage)::BIGINT AS calls_without_usage,
        sum(coalesce(replayed_tokens, 0) + coalesce(retried_tokens, 0) + coalesce(forked_tokens, 0))::BIGINT AS again
    FROM usage_by('model', /* chosen */)
),
people AS (
    SELECT sum(cost_usd)::DOUBLE AS cost_usd, sum(engagements)::BIGINT AS engagements
    FROM usage_by('engagement', /* chosen */)
    WHERE key IS NOT NULL
)
SELECT
    s.calls, s.total_tokens, s.cost_usd, p.cost_usd / nullif(p.engagements, 0) AS cost_per_engagement, s.unpriced_calls,
    s.calls_without_usage, s.again / nullif(s.total_tokens, 0) AS spent_again
FROM spent AS s, people AS p
