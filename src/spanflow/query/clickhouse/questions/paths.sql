SELECT
    path,
    toInt64(count()) AS engagements,
    engagements / sum(engagements) OVER () AS share,
    toInt64(countIf(status = 'completed')) AS completed,
    toInt64(countIf(status = 'abandoned')) AS abandoned,
    toInt64(countIf(status = 'failed')) AS failed,
    quantileExactInclusive(0.5)(working_ms) AS p50_working_ms,
    if(sum(llm_calls) = 0, 0, sumOrNullIf(total_tokens, llm_calls > 0)) AS total_tokens,
    if(sum(llm_calls) = 0, 0, sumOrNullIf(cost_usd, llm_calls > 0)) AS cost_usd,
    max(engagement_id) AS example_engagement_id
FROM (
    SELECT
        *,
        path_of(visits, runs, {is_nested:UInt8}) AS whole,
        -- Repetitions one after the other read as one, and what is longer than wanted ends with an ellipsis.
        arrayFilter((step, n) -> n = 1 OR step != whole[n - 1], whole, arrayEnumerate(whole)) AS told_once,
        if(
            length(told_once) > {depth:Int64},
            arrayPushBack(arraySlice(told_once, 1, {depth:Int64}), '…'),
            told_once
        ) AS path
    FROM visited
)
GROUP BY path
ORDER BY engagements DESC, path
