SELECT step, attempts - executions AS retries, failed
FROM step_stats(/* chosen */)
WHERE $s$${step:raw}$s$ IN ('.*', step) AND attempts - executions + failed > 0
ORDER BY retries + failed DESC, step
LIMIT 20
