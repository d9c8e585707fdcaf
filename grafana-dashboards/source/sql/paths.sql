SELECT
    array_to_string(path, ' → ') AS path, engagements, share, completed, abandoned, failed, p50_working_ms, total_tokens,
    cost_usd, example_engagement_id
FROM paths(/* chosen */)
ORDER BY engagements DESC, path
LIMIT 50
