SELECT step AS id, step AS title, executions AS mainstat, p50_working_ms AS secondarystat
FROM step_stats(/* chosen */)
ORDER BY step
