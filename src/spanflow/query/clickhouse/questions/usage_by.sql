SELECT
    multiIf(is_of_call({by:String}), key_of_call({by:String}), key_of_engagement({by:String})) AS key,
    multiIf(
        isNull({split:Nullable(String)}), NULL,
        is_of_call(ifNull({split:Nullable(String)}, '')), key_of_call(ifNull({split:Nullable(String)}, '')),
        key_of_engagement(ifNull({split:Nullable(String)}, ''))
    ) AS split,
    toInt64(count()) AS calls,
    sumOrNull(c.input_tokens) AS input_tokens,
    sumOrNull(c.output_tokens) AS output_tokens,
    sumOrNull(c.cache_read_tokens) AS cache_read_tokens,
    sumOrNull(c.cache_write_tokens) AS cache_write_tokens,
    sumOrNull(c.reasoning_tokens) AS reasoning_tokens,
    sumOrNull(c.total_tokens) AS total_tokens,
    sumOrNull(c.cost_usd) AS cost_usd,
    toInt64(countIf(NOT c.is_known)) AS calls_without_usage,
    toInt64(countIf(isNull(c.cost_usd))) AS unpriced_calls,
    if(countIf(c.repeats = 'replay') = 0, 0, sumOrNullIf(c.total_tokens, c.repeats = 'replay')) AS replayed_tokens,
    if(countIf(c.repeats = 'retry') = 0, 0, sumOrNullIf(c.total_tokens, c.repeats = 'retry')) AS retried_tokens,
    if(countIf(c.repeats = 'fork') = 0, 0, sumOrNullIf(c.total_tokens, c.repeats = 'fork')) AS forked_tokens,
    toInt64(uniqExact(c.engagement_id)) AS engagements
FROM repeated AS c
LEFT JOIN (
    SELECT engagement_id, name, user_id, session_id, conversation_id, metadata, service_name, status, started_ns FROM chosen
) AS e ON e.engagement_id = c.engagement_id
WHERE NOT c.is_tool
    AND c.at_ns <= {horizon_ns:Int64}
    AND (isNull({call_since_us:Nullable(Int64)}) OR intDiv(c.at_ns, 1000) >= {call_since_us:Nullable(Int64)})
    AND (isNull({call_until_us:Nullable(Int64)}) OR intDiv(c.at_ns, 1000) < {call_until_us:Nullable(Int64)})
    -- Calls outside any engagement have no name, no user and no metadata.
    AND (isNotNull(e.engagement_id) OR NOT {is_restricted:UInt8})
GROUP BY key, split
ORDER BY total_tokens DESC NULLS LAST, key ASC NULLS LAST, split ASC NULLS LAST
