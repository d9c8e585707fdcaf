SELECT
    time_bucket(to_milliseconds(greatest(${__interval_ms}::BIGINT, 60000)), started_at) AS time,
    count(*) FILTER (status = 'completed') AS completed,
    count(*) FILTER (status = 'active') AS active,
    count(*) FILTER (status = 'paused') AS paused,
    count(*) FILTER (status = 'abandoned') AS abandoned,
    count(*) FILTER (status = 'failed') AS failed,
    count(*) FILTER (status = 'interrupted') AS interrupted
FROM engagements
WHERE /* in range */
GROUP BY 1
ORDER BY 1
