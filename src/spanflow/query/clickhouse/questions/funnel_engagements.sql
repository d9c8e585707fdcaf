SELECT
    toInt64(position) AS position,
    step,
    engagement_id,
    outcome,
    status,
    toInt64(length(mine)) AS visits,
    to_time(intDiv(arrayMin(v -> v.at_ns, mine), 1000)) AS first_at,
    total_of(arrayMap(v -> v.working_ms, mine)) AS working_ms,
    spent_in(arrayMap(v -> v.total_tokens, mine), arrayMap(v -> v.llm_calls, mine)) AS total_tokens,
    spent_in(arrayMap(v -> v.cost_usd, mine), arrayMap(v -> v.llm_calls, mine)) AS cost_usd,
    last_visit.trace_id AS trace_id,
    last_visit.turn_id AS turn_id,
    last_visit.step_id AS step_id
FROM (SELECT *, arraySort(v -> (v.at_ns, v.step_id), mine)[-1] AS last_visit FROM comers)
ORDER BY position, first_at, engagement_id
