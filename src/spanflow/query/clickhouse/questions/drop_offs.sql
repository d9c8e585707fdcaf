SELECT
    m.dropped_at AS step,
    m.status AS status,
    m.abandon_reason AS reason,
    toInt64(m.engagements) AS engagements,
    m.engagements / m.all_of_them AS share,
    if(ifNull(t.reached, 0) = 0, NULL, m.inside / t.reached) AS of_reached,
    m.p50_lived_ms AS p50_lived_ms,
    if(m.calls = 0, 0, m.tokens) AS total_tokens,
    if(m.calls = 0, 0, m.cost) AS cost_usd,
    m.example AS example_engagement_id
FROM (
    SELECT
        dropped_at,
        status,
        abandon_reason,
        count() AS engagements,
        sum(engagements) OVER () AS all_of_them,
        -- Who stopped before a step at a breakpoint never reached it.
        countIf(arrayExists(v -> v.path = ifNull(dropped_at, ''), visits)) AS inside,
        quantileExactInclusive(0.5)((intDiv(last_seen_ns, 1000) - intDiv(started_ns, 1000)) / 1000) AS p50_lived_ms,
        sum(llm_calls) AS calls,
        sumOrNullIf(total_tokens, llm_calls > 0) AS tokens,
        sumOrNullIf(cost_usd, llm_calls > 0) AS cost,
        max(engagement_id) AS example
    FROM visited
    GROUP BY dropped_at, status, abandon_reason
) AS m
LEFT JOIN (
    SELECT arrayJoin(arrayDistinct(arrayMap(v -> v.path, visits))) AS path, count() AS reached
    FROM visited
    GROUP BY path
) AS t ON t.path = m.dropped_at
WHERE m.status IN ('abandoned', 'failed', 'interrupted')
ORDER BY engagements DESC, step ASC NULLS LAST, status, reason ASC NULLS LAST
