SELECT
    multiIf(
        {key:String} IN ('name', 'engagement'), name,
        {key:String} = 'user_id', user_id,
        {key:String} = 'session_id', session_id,
        {key:String} = 'conversation_id', conversation_id,
        {key:String} = 'service', nullIf(service_name, ''),
        {key:String} = 'status', status,
        {key:String} IN ('hour', 'day', 'week', 'month'), period_of({key:String}, intDiv(started_ns, 1000)),
        metadata_text(metadata, {key:String})
    ) AS key,
    toInt64(count()) AS engagements,
    toInt64(countIf(status = 'active')) AS active,
    toInt64(countIf(status = 'paused')) AS paused,
    toInt64(countIf(status = 'completed')) AS completed,
    toInt64(countIf(status = 'abandoned')) AS abandoned,
    toInt64(countIf(status = 'failed')) AS failed,
    toInt64(countIf(status = 'interrupted')) AS interrupted,
    sum(e.turns) AS turns,
    sum(e.steps) AS steps,
    sum(e.llm_calls) AS llm_calls,
    if(llm_calls = 0, 0, sumOrNullIf(e.total_tokens, e.llm_calls > 0)) AS total_tokens,
    if(llm_calls = 0, 0, sumOrNullIf(e.cost_usd, e.llm_calls > 0)) AS cost_usd,
    sum(e.working_ms) AS working_ms,
    sum(e.waiting_ms) AS waiting_ms,
    to_time(intDiv(min(started_ns), 1000)) AS first_at,
    to_time(intDiv(max(last_seen_ns), 1000)) AS last_at
FROM chosen AS e
GROUP BY key
ORDER BY engagements DESC, key ASC NULLS LAST
