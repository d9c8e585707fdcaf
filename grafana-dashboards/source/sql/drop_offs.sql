SELECT
    coalesce(step, '(before any step)') AS step, status, reason, engagements, share, of_reached, p50_lived_ms, total_tokens,
    cost_usd, example_engagement_id
FROM drop_offs(/* chosen */)
ORDER BY engagements DESC, step, status
LIMIT 50
