SELECT
    v.path AS step,
    v.engagements AS engagements,
    v.times AS visits,
    v.executions AS executions,
    v.attempts AS attempts,
    v.failed AS failed,
    v.cancelled AS cancelled,
    v.interrupted AS interrupted,
    toInt64(ifNull(w.waited, 0)) AS waited,
    v.failed / v.times AS failure_rate,
    v.avg_working_ms AS avg_working_ms,
    v.p50 AS p50_working_ms,
    v.p95 AS p95_working_ms,
    v.p99 AS p99_working_ms,
    w.p50 AS p50_waiting_ms,
    w.p95 AS p95_waiting_ms,
    v.llm_calls AS llm_calls,
    v.tool_calls AS tool_calls,
    if(v.llm_calls = 0, 0, v.input_tokens) AS input_tokens,
    if(v.llm_calls = 0, 0, v.output_tokens) AS output_tokens,
    if(v.llm_calls = 0, 0, v.total_tokens) AS total_tokens,
    if(v.llm_calls = 0, 0, v.cost_usd) AS cost_usd,
    v.calls_without_usage AS calls_without_usage,
    v.unpriced_calls AS unpriced_calls,
    if(ifNull(r.replays, 0) = 0, 0, r.replayed) AS replayed_tokens,
    if(ifNull(r.retries, 0) = 0, 0, r.retried) AS retried_tokens,
    if(ifNull(r.forks, 0) = 0, 0, r.forked) AS forked_tokens
FROM (
    SELECT
        v.path AS path,
        toInt64(uniqExact(engagement_id)) AS engagements,
        toInt64(count()) AS times,
        sum(v.executions) AS executions,
        sum(v.attempts) AS attempts,
        toInt64(countIf(v.status = 'failed')) AS failed,
        toInt64(countIf(v.status = 'cancelled')) AS cancelled,
        toInt64(countIf(v.status = 'interrupted')) AS interrupted,
        avgOrNull(v.working_ms) AS avg_working_ms,
        quantileExactInclusiveOrNull(0.5)(v.working_ms) AS p50,
        quantileExactInclusiveOrNull(0.95)(v.working_ms) AS p95,
        quantileExactInclusiveOrNull(0.99)(v.working_ms) AS p99,
        sum(v.llm_calls) AS llm_calls,
        sum(v.tool_calls) AS tool_calls,
        sumOrNullIf(v.input_tokens, v.llm_calls > 0) AS input_tokens,
        sumOrNullIf(v.output_tokens, v.llm_calls > 0) AS output_tokens,
        sumOrNullIf(v.total_tokens, v.llm_calls > 0) AS total_tokens,
        sumOrNullIf(v.cost_usd, v.llm_calls > 0) AS cost_usd,
        sum(v.calls_without_usage) AS calls_without_usage,
        sum(v.unpriced_calls) AS unpriced_calls
    FROM visited
    ARRAY JOIN visits AS v
    GROUP BY v.path
) AS v
LEFT JOIN (
    SELECT
        w.path AS path,
        count() AS waited,
        quantileExactInclusiveOrNull(0.5)(w.waited_ms) AS p50,
        quantileExactInclusiveOrNull(0.95)(w.waited_ms) AS p95
    FROM journeys
    ARRAY JOIN waits AS w
    GROUP BY w.path
) AS w ON w.path = v.path
LEFT JOIN (
    -- In each step and in those around it. Of calls none of which tells, nobody knows.
    SELECT
        p.path AS path,
        sum(c.is_replay) AS replays,
        sumOrNullIf(c.total_tokens, c.is_replay) AS replayed,
        sum(c.is_retry) AS retries,
        sumOrNullIf(c.total_tokens, c.is_retry) AS retried,
        sum(c.is_again) AS forks,
        sumOrNullIf(c.total_tokens, c.is_again) AS forked
    FROM (
        SELECT
            turn_id,
            arrayJoin(around) AS step_id,
            total_tokens,
            repeats = 'replay' AS is_replay,
            repeats = 'retry' AS is_retry,
            repeats = 'fork' AS is_again
        FROM repeated
        WHERE repeats != '' AND NOT is_tool AND engagement_id IN (SELECT engagement_id FROM chosen)
    ) AS c
    JOIN placed AS p ON p.turn_id = c.turn_id AND p.span_id = c.step_id
    WHERE p.at_ns <= {horizon_ns:Int64}
    GROUP BY p.path
) AS r ON r.path = v.path
ORDER BY step
