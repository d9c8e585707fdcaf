SELECT
    SpanAttributes['spanflow.step.path'] AS step,
    count() AS executions,
    countIf(SpanAttributes['spanflow.step.status'] = 'failed') AS failed,
    quantileExact(0.5)(Duration) / 1e6 AS p50_ms,
    quantileExact(0.95)(Duration) / 1e6 AS p95_ms,
    sum(toUInt64OrZero(SpanAttributes['spanflow.usage.total_tokens'])) AS total_tokens
FROM otel_traces
WHERE $__timeFilter(Timestamp) AND mapContains(SpanAttributes, 'spanflow.step.path')
    AND $s$${step:raw}$s$ IN ('.*', step)
GROUP BY step
ORDER BY executions DESC, step
