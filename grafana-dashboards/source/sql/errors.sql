SELECT
    path, error_type, count(*) AS failed, max(started_at) AS last_at, arg_max(error_message, started_at) AS error_message,
    arg_max(engagement_id, started_at) AS example_engagement_id
FROM steps
WHERE status = 'failed' AND $s$${step:raw}$s$ IN ('.*', path) AND engagement_id IN (
    SELECT engagement_id FROM engagements WHERE /* in range */
)
GROUP BY path, error_type
ORDER BY failed DESC, path, error_type
LIMIT 50
