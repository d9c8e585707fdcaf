SELECT
    engagement_id,
    name,
    status,
    abandon_reason,
    dropped_at,
    last_step,
    user_id,
    session_id,
    conversation_id,
    metadata,
    to_time(intDiv(started_ns, 1000)) AS started_at,
    to_time(intDiv(last_seen_ns, 1000)) AS last_seen_at,
    turns,
    path_of(visits, runs, false) AS path,
    working_ms,
    waiting_ms,
    llm_calls,
    tool_calls,
    total_tokens,
    cost_usd,
    arrayMap(t -> t.trace_id, begun) AS trace_ids
FROM visited
WHERE (isNull({status:Nullable(String)}) OR status = {status:Nullable(String)})
    AND (empty({steps:Array(String)}) OR arrayExists(v -> v.path = {steps:Array(String)}[1], visits))
ORDER BY started_at DESC, engagement_id
