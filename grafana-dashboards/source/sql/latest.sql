SELECT
    engagement_id, name, user_id, status, dropped_at, started_at, turns, array_to_string(path, ' → ') AS path, working_ms,
    waiting_ms, total_tokens, cost_usd
FROM journeys(/* chosen */)
ORDER BY started_at DESC, engagement_id
LIMIT 100
