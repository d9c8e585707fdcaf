SELECT
    position, step, reached, visits, dropped, conversion_rate, step_rate, p50_working_ms, p95_working_ms, p50_waiting_ms,
    total_tokens, cost_usd
FROM funnel([${steps:sqlstring}], /* chosen */)
ORDER BY position
