SELECT
    cohort, users, engagements, completed, abandoned, failed, completion_rate, engagements_per_user, total_tokens, cost_usd
FROM cohorts('day', /* chosen */)
ORDER BY cohort
