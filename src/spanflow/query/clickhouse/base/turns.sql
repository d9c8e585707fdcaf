-- One row a turn: its own span, if it ended, and the steps and last signs of life that name it. A span that was exported
-- twice is one.
SELECT
    turn_id,
    engagement_id,
    trace_id,
    is_open,
    if(is_open, first_ns, own_ns) AS started_ns,
    -- Null while it is open.
    if(is_open, NULL, own_ended_ns) AS ended_ns,
    last_ns,
    service_name,
    outcome,
    kind,
    on_thread,
    notEmpty(JSONExtractArrayRaw(ifNull(told_goals, ''))) AS has_goals,
    name,
    user_id,
    session_id,
    conversation_id,
    graph_version,
    metadata,
    resolution,
    JSONExtract(ifNull(told_answers, ''), 'Array(String)') AS answers,
    ifNull(told_llm_calls, 0) AS llm_calls,
    ifNull(told_tool_calls, 0) AS tool_calls,
    if(llm_calls = 0, 0, told_tokens) AS total_tokens,
    if(llm_calls = 0, 0, told_usd) AS cost_usd,
    steps,
    arrayFilter(e -> e.1 = 'wait', noted) AS breaks,
    multiIf(
        arrayExists(e -> e.1 = 'gave_up', noted) OR resolution = 'gave_up', 'gave_up',
        resolution = 'expired', 'expired',
        NULL
    ) AS mark,
    arrayConcat(
        arrayMap(s -> s.ended_ns, arrayFilter(s -> s.has_goal AND s.status = 'completed', steps)),
        arrayMap(e -> e.4, arrayFilter(e -> e.1 = 'goal', noted))
    ) AS goals_ns,
    -- A clock that runs ahead must not reach it after all is over.
    if(empty(goals_ns), NULL, least(arrayMin(goals_ns), last_ns)) AS goal_ns,
    arrayMap(s -> s.parent_step_id, steps) AS parents,
    -- Where it stopped.
    coalesce(
        innermost(arrayFilter(s -> s.status = 'failed', steps)),
        if(
            outcome = 'paused',
            coalesce(
                innermost(arrayFilter(s -> s.status = 'waiting', steps)),
                if(
                    empty(breaks),
                    NULL,
                    toNullable(arrayMin(arrayMap(e -> JSONExtractString(e.3, 'step'), breaks)))
                )
            ),
            NULL
        ),
        latest(arrayFilter(s -> NOT has(parents, s.span_id), steps))
    ) AS stopped_at,
    -- Where it was while it went on.
    arrayFilter(s -> s.at_ns <= {instant_ns:Int64}, steps) AS begun,
    if(
        ended_ns > {instant_ns:Int64} OR (is_open AND last_ns > {instant_ns:Int64}),
        coalesce(
            innermost(arrayFilter(s -> s.status = 'failed' AND s.ended_ns <= {instant_ns:Int64}, begun)),
            innermost(arrayFilter(s -> s.ended_ns > {instant_ns:Int64}, begun)),
            latest(begun)
        ),
        stopped_at
    ) AS place
FROM (
    SELECT
        turn_id,
        countIf(is_turn) = 0 AS is_open,
        max(spans.engagement_id) AS engagement_id,
        if(is_open, max(TraceId), anyIf(TraceId, is_turn)) AS trace_id,
        if(is_open, max(ServiceName), anyIf(toString(ServiceName), is_turn)) AS service_name,
        anyIf(at_ns, is_turn) AS own_ns,
        anyIf(over_ns, is_turn) AS own_ended_ns,
        min(at_ns) AS first_ns,
        max(over_ns) AS last_ns,
        anyIf(attr('spanflow.turn.outcome'), is_turn) AS outcome,
        anyIf(attr('spanflow.turn.kind'), is_turn) AS kind,
        anyIf(attr('spanflow.engagement.name'), is_turn) AS name,
        anyIf(attr('user.id'), is_turn) AS user_id,
        anyIf(attr('session.id'), is_turn) AS session_id,
        anyIf(attr('gen_ai.conversation.id'), is_turn) AS conversation_id,
        anyIf(attr('spanflow.graph.version'), is_turn) AS graph_version,
        anyIf(attr('spanflow.engagement.metadata'), is_turn) AS metadata,
        anyIf(attr('spanflow.turn.resolution'), is_turn) AS resolution,
        anyIf(SpanAttributes['spanflow.turn.on_thread'] = 'true', is_turn) AS on_thread,
        anyIf(attr('spanflow.turn.goals'), is_turn) AS told_goals,
        anyIf(attr('spanflow.turn.answers'), is_turn) AS told_answers,
        anyIf(toInt64OrNull(SpanAttributes['spanflow.usage.llm_calls']), is_turn) AS told_llm_calls,
        anyIf(toInt64OrNull(SpanAttributes['spanflow.usage.tool_calls']), is_turn) AS told_tool_calls,
        anyIf(toInt64OrNull(SpanAttributes['spanflow.usage.total_tokens']), is_turn) AS told_tokens,
        anyIf(toFloat64OrNull(SpanAttributes['spanflow.usage.cost_usd']), is_turn) AS told_usd,
        -- What was noted on the turn itself.
        groupUniqArrayArrayIf(
            arrayMap(
                (n, a, t) -> (
                    a['spanflow.event.kind'], toString(n), a['spanflow.event.payload'], toUnixTimestamp64Nano(t)
                ),
                Events.Name,
                Events.Attributes,
                Events.Timestamp
            ),
            is_turn
        ) AS noted,
        groupUniqArrayIf(
            CAST(
                (
                    SpanId,
                    SpanAttributes['spanflow.step.parent_id'],
                    ifNull(coalesce(attr('spanflow.step.path'), attr('spanflow.step.name')), ''),
                    step_status,
                    SpanAttributes['spanflow.step.execution_id'],
                    toInt64OrNull(SpanAttributes['spanflow.step.superstep']),
                    at_ns,
                    over_ns,
                    toInt64OrNull(SpanAttributes['spanflow.step.attempts']),
                    mapContains(SpanAttributes, 'spanflow.step.goal'),
                    toInt64OrZero(SpanAttributes['spanflow.usage.llm_calls']),
                    toInt64OrZero(SpanAttributes['spanflow.usage.tool_calls']),
                    spent(SpanAttributes, 'spanflow.usage.input_tokens'),
                    spent(SpanAttributes, 'spanflow.usage.output_tokens'),
                    spent(SpanAttributes, 'spanflow.usage.total_tokens'),
                    spent_usd(SpanAttributes),
                    toInt64OrZero(SpanAttributes['spanflow.usage.calls_without_usage']),
                    toInt64OrZero(SpanAttributes['spanflow.usage.unpriced_calls']),
                    if(
                        step_status = 'waiting',
                        arrayMap(
                            (a, t) -> (
                                JSONExtractString(a['spanflow.event.payload'], 'id'), toUnixTimestamp64Nano(t)
                            ),
                            arrayFilter(a -> a['spanflow.event.kind'] = 'wait', Events.Attributes),
                            arrayFilter((t, a) -> a['spanflow.event.kind'] = 'wait', Events.Timestamp, Events.Attributes)
                        ),
                        []
                    )
                ),
                'Tuple(
                    span_id String, parent_step_id String, path String, status String, execution_id String,
                    superstep Nullable(Int64), at_ns Int64, ended_ns Int64, attempts Nullable(Int64), has_goal UInt8,
                    llm_calls Int64, tool_calls Int64, input_tokens Nullable(Int64), output_tokens Nullable(Int64),
                    total_tokens Nullable(Int64), cost_usd Nullable(Float64), calls_without_usage Int64,
                    unpriced_calls Int64, asked Array(Tuple(id String, at_ns Int64))
                )'
            ),
            is_step
        ) AS steps
    FROM spans
    WHERE turn_id != ''
    GROUP BY turn_id
)
