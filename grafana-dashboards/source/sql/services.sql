SELECT
    coalesce(t.service_name, '(unnamed)') AS service_name, max(coalesce(t.ended_at, t.started_at)) AS last_seen_at,
    count(DISTINCT t.engagement_id) AS engagements, count(*) AS turns, count(*) FILTER (t.outcome IS NULL) AS open_turns,
    count(*) FILTER (t.outcome = 'interrupted') AS interrupted, sum(t.errors)::BIGINT AS errors
FROM turns AS t
WHERE t.started_at >= epoch_ms(${__from}::BIGINT) AND t.started_at < epoch_ms(${__to}::BIGINT)
GROUP BY 1
ORDER BY last_seen_at DESC, service_name
