-- The numbers of one side.
SELECT
    toFloat64(count()) AS engagements,
    toFloat64(countIf(status = 'completed')) AS completed,
    toFloat64(countIf(status = 'abandoned')) AS abandoned,
    toFloat64(countIf(status = 'failed')) AS failed,
    toFloat64(countIf(status = 'interrupted')) AS interrupted,
    completed / nullIf(engagements, 0) AS completion_rate,
    abandoned / nullIf(engagements, 0) AS abandonment_rate,
    failed / nullIf(engagements, 0) AS failure_rate,
    avgOrNull(e.turns) AS turns_per_engagement,
    avgOrNull(e.steps) AS steps_per_engagement,
    quantileExactInclusiveOrNull(0.5)(working_ms) AS p50_working_ms,
    quantileExactInclusiveOrNull(0.95)(working_ms) AS p95_working_ms,
    quantileExactInclusiveOrNullIf(0.5)(waiting_ms, waiting_ms > 0) AS p50_waiting_ms,
    avgOrNull(e.llm_calls) AS llm_calls_per_engagement,
    avgOrNull(e.total_tokens) AS tokens_per_engagement,
    avgOrNull(e.cost_usd) AS cost_usd_per_engagement
FROM chosen AS e
