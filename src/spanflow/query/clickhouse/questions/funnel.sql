SELECT
    toInt64(a.position) AS position,
    {steps:Array(String)}[a.position] AS step,
    toInt64(ifNull(m.reached, 0)) AS reached,
    toInt64(ifNull(m.visits, 0)) AS visits,
    toInt64(ifNull(m.advanced, 0)) AS advanced,
    toInt64(ifNull(m.waiting, 0)) AS waiting,
    toInt64(ifNull(m.active, 0)) AS active,
    toInt64(ifNull(m.failed, 0)) AS failed,
    toInt64(ifNull(m.interrupted, 0)) AS interrupted,
    toInt64(ifNull(m.dropped, 0)) AS dropped,
    if(a.position < length({steps:Array(String)}) AND m.reached > 0, 1 - m.dropped / m.reached, NULL) AS conversion_rate,
    if(a.position < length({steps:Array(String)}) AND m.reached > 0, m.also_next / m.reached, NULL) AS step_rate,
    m.avg_working_ms AS avg_working_ms,
    m.p50_working_ms AS p50_working_ms,
    m.p95_working_ms AS p95_working_ms,
    m.p50_waiting_ms AS p50_waiting_ms,
    m.p95_waiting_ms AS p95_waiting_ms,
    if(ifNull(m.llm_calls, 0) = 0, 0, m.input_tokens) AS input_tokens,
    if(ifNull(m.llm_calls, 0) = 0, 0, m.output_tokens) AS output_tokens,
    if(ifNull(m.llm_calls, 0) = 0, 0, m.total_tokens) AS total_tokens,
    if(ifNull(m.llm_calls, 0) = 0, 0, m.cost_usd) AS cost_usd,
    toInt64(ifNull(m.calls_without_usage, 0)) AS calls_without_usage,
    toInt64(ifNull(m.unpriced_calls, 0)) AS unpriced_calls
FROM (SELECT arrayJoin(arrayEnumerate({steps:Array(String)})) AS position) AS a
LEFT JOIN (
    SELECT
        position,
        count() AS reached,
        sum(length(mine)) AS visits,
        countIf(outcome = 'advanced') AS advanced,
        countIf(outcome = 'waiting') AS waiting,
        countIf(outcome = 'active') AS active,
        countIf(outcome = 'failed') AS failed,
        countIf(outcome = 'interrupted') AS interrupted,
        countIf(outcome = 'dropped') AS dropped,
        countIf(has_gone_on) AS also_next,
        avgOrNullArray(arrayMap(v -> v.working_ms, mine)) AS avg_working_ms,
        quantileExactInclusiveOrNullArray(0.5)(arrayMap(v -> v.working_ms, mine)) AS p50_working_ms,
        quantileExactInclusiveOrNullArray(0.95)(arrayMap(v -> v.working_ms, mine)) AS p95_working_ms,
        quantileExactInclusiveOrNullArray(0.5)(waited) AS p50_waiting_ms,
        quantileExactInclusiveOrNullArray(0.95)(waited) AS p95_waiting_ms,
        sumArray(arrayMap(v -> v.llm_calls, mine)) AS llm_calls,
        sumOrNullArray(arrayMap(v -> if(v.llm_calls > 0, v.input_tokens, NULL), mine)) AS input_tokens,
        sumOrNullArray(arrayMap(v -> if(v.llm_calls > 0, v.output_tokens, NULL), mine)) AS output_tokens,
        sumOrNullArray(arrayMap(v -> if(v.llm_calls > 0, v.total_tokens, NULL), mine)) AS total_tokens,
        sumOrNullArray(arrayMap(v -> if(v.llm_calls > 0, v.cost_usd, NULL), mine)) AS cost_usd,
        sumArray(arrayMap(v -> v.calls_without_usage, mine)) AS calls_without_usage,
        sumArray(arrayMap(v -> v.unpriced_calls, mine)) AS unpriced_calls
    FROM comers
    GROUP BY position
) AS m ON m.position = a.position
ORDER BY position
