SELECT
    step, engagements, visits, executions, failure_rate, avg_working_ms, p50_waiting_ms, p95_waiting_ms, llm_calls,
    tool_calls, total_tokens, cost_usd
FROM step_stats(/* chosen */)
WHERE $s$${step:raw}$s$ IN ('.*', step)
ORDER BY executions DESC, step
