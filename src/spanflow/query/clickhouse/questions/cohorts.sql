SELECT
    cohort,
    toInt64(uniqExact(user_id)) AS users,
    toInt64(count()) AS engagements,
    toInt64(countIf(status = 'completed')) AS completed,
    toInt64(countIf(status = 'abandoned')) AS abandoned,
    toInt64(countIf(status = 'failed')) AS failed,
    completed / engagements AS completion_rate,
    engagements / users AS engagements_per_user,
    if(sum(llm_calls) = 0, 0, sumOrNullIf(u.total_tokens, llm_calls > 0)) AS total_tokens,
    if(sum(llm_calls) = 0, 0, sumOrNullIf(u.cost_usd, llm_calls > 0)) AS cost_usd
FROM (
    SELECT
        *,
        period_start({by:String}, intDiv(min(started_ns) OVER (PARTITION BY user_id), 1000)) AS cohort
    FROM chosen
    WHERE isNotNull(user_id)
) AS u
GROUP BY cohort
ORDER BY cohort
