SELECT step, p50_working_ms AS p50, p95_working_ms AS p95, p99_working_ms AS p99
FROM step_stats(/* chosen */)
WHERE $s$${step:raw}$s$ IN ('.*', step) AND p50_working_ms IS NOT NULL
ORDER BY p95 DESC, step
LIMIT 20
