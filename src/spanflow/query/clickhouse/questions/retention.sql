SELECT
    cohort,
    period,
    max(users_then) AS users,
    toInt64(count()) AS returned,
    returned / users AS rate
FROM (
    SELECT
        cohort,
        period,
        -- Everybody came in the first period.
        toInt64(sum(period = 0) OVER (PARTITION BY cohort)) AS users_then
    FROM (
        SELECT DISTINCT
            user_id,
            period_start({by:String}, first_us) AS cohort,
            toInt64(dateDiff({by:String}, cohort, period_start({by:String}, intDiv(started_ns, 1000)))) AS period
        FROM (
            SELECT user_id, started_ns, intDiv(min(started_ns) OVER (PARTITION BY user_id), 1000) AS first_us FROM chosen
            WHERE isNotNull(user_id)
        )
    )
)
GROUP BY cohort, period
ORDER BY cohort, period
