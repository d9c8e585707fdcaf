-- From the records of the touched turns to one row a turn.
INSERT INTO turn_facts BY NAME
WITH
-- Read where they lie, as often as needed: a turn may be larger than memory.
r AS NOT MATERIALIZED (
    SELECT
        turn_id, engagement_id, trace_id, span_id, process_id, service_name, kind, phase, status, name, path, goal, step_id,
        parent_step_id, at_ns, ended_ns, counted, errors, input_tokens, output_tokens, cache_read_tokens,
        cache_write_tokens, reasoning_tokens, total_tokens, coalesce(cost_usd, priced_usd) AS cost_usd
    FROM records
    SEMI JOIN touched_turns USING (turn_id)
    WHERE at_ns BETWEEN @low AND @high
),
-- Two traces with one span id are possible in principle; 'end' sorts before 'start'.
t AS (
    SELECT
        turn_id, engagement_id, trace_id, process_id, service_name, phase, status, name, goal, at_ns, started_ns, ended_ns,
        turn_kind, graph_version, on_thread, goals, user_id, session_id, conversation_id, metadata, error_type,
        error_message, events, answers, resolution, origin_turn_id, origin_superstep
    FROM records
    SEMI JOIN touched_turns USING (turn_id)
    WHERE kind = 'turn' AND at_ns BETWEEN @low AND @high
    QUALIFY row_number() OVER (PARTITION BY turn_id ORDER BY phase, at_ns, trace_id) = 1
),
s AS (
    SELECT
        turn_id,
        span_id,
        phase,
        status,
        goal,
        at_ns,
        ended_ns,
        coalesce(path, name, '') AS place,
        len(string_split(coalesce(path, name, ''), '/')) AS depth,
        span_id NOT IN (SELECT parent_step_id FROM r WHERE kind = 'step' AND parent_step_id IS NOT NULL) AS is_leaf
    FROM r
    WHERE kind = 'step'
),
left_at AS (
    SELECT
        turn_id,
        count(*) AS steps,
        arg_max(place, row(depth, at_ns, place)) FILTER (phase = 'end' AND status = 'failed') AS failed,
        arg_max(place, row(depth, at_ns, place)) FILTER (phase <> 'end') AS open,
        arg_max(place, row(depth, at_ns, place)) FILTER (phase = 'end' AND status = 'waiting') AS waiting,
        arg_max(place, row(at_ns, place)) FILTER (is_leaf) AS leaf
    FROM s
    GROUP BY turn_id
),
noted AS (SELECT turn_id, at_ns, unnest(event_list(events)) AS event FROM t WHERE events IS NOT NULL),
reached AS (
    SELECT turn_id, goal, coalesce(ended_ns, at_ns) AS ns
    FROM s
    WHERE goal IS NOT NULL AND phase = 'end' AND status = 'completed'
    UNION ALL
    SELECT turn_id, goal, coalesce(ended_ns, at_ns) FROM t WHERE goal IS NOT NULL
    UNION ALL
    SELECT turn_id, event.name, if(event.at_ns BETWEEN 0 AND 4611686018427387903, event.at_ns, at_ns)
    FROM noted
    WHERE event.kind = 'goal' AND event.name IS NOT NULL
),
-- A breakpoint waits at a step without being in it.
breakpoints AS (
    SELECT turn_id, min(json_extract_string(event.payload, '$.step')) AS place
    FROM noted
    WHERE event.kind = 'wait'
    GROUP BY turn_id
),
marked AS (
    SELECT turn_id, if(bool_or(is_given_up), 'gave_up', 'expired') AS mark
    FROM (
        SELECT turn_id, true AS is_given_up FROM noted WHERE event.kind = 'gave_up'
        UNION ALL
        SELECT turn_id, resolution = 'gave_up' FROM t WHERE resolution IN ('gave_up', 'expired')
    )
    GROUP BY turn_id
),
goals AS (SELECT turn_id, arg_min(goal, row(ns, goal)) AS goal, min(ns) AS goal_ns FROM reached GROUP BY turn_id),
sums AS (
    SELECT
        turn_id,
        max(engagement_id) AS engagement_id,
        max(trace_id) AS trace_id,
        max(process_id) AS process_id,
        max(service_name) AS service_name,
        coalesce(sum(errors) FILTER (kind IN ('turn', 'step', 'workflow')), 0) AS errors,
        min(at_ns) AS first_ns,
        max(greatest(at_ns, coalesce(ended_ns, 0))) AS last_ns,
        count(*) FILTER (
            step_id IS NOT NULL AND kind <> 'step'
            AND (turn_id, step_id) NOT IN (SELECT (turn_id, span_id) FROM s)
        ) AS unknown_step_records,
        count(*) FILTER (counted AND kind <> 'tool') AS llm_calls,
        count(*) FILTER (counted AND kind = 'tool') AS tool_calls,
        count(*) FILTER (
            counted AND kind <> 'tool' AND coalesce(
                input_tokens, output_tokens, total_tokens, cache_read_tokens, cache_write_tokens, reasoning_tokens
            ) IS NULL
        ) AS calls_without_usage,
        count(*) FILTER (counted AND kind <> 'tool' AND cost_usd IS NULL) AS unpriced_calls,
        sum(input_tokens) FILTER (counted AND kind <> 'tool') AS input_tokens,
        sum(output_tokens) FILTER (counted AND kind <> 'tool') AS output_tokens,
        sum(cache_read_tokens) FILTER (counted AND kind <> 'tool') AS cache_read_tokens,
        sum(cache_write_tokens) FILTER (counted AND kind <> 'tool') AS cache_write_tokens,
        sum(reasoning_tokens) FILTER (counted AND kind <> 'tool') AS reasoning_tokens,
        sum(total_tokens) FILTER (counted AND kind <> 'tool') AS total_tokens,
        sum(cost_usd::DECIMAL(38, 15)) FILTER (counted AND kind <> 'tool') AS cost_usd
    FROM r
    GROUP BY turn_id
)
SELECT
    u.turn_id,
    coalesce(t.engagement_id, u.engagement_id) AS engagement_id,
    coalesce(t.trace_id, u.trace_id) AS trace_id,
    coalesce(t.process_id, u.process_id) AS process_id,
    coalesce(t.service_name, u.service_name) AS service_name,
    t.name,
    t.turn_kind,
    if(t.phase = 'end', t.status, NULL) AS outcome,
    t.phase IS DISTINCT FROM 'end' AS is_open,
    t.graph_version,
    coalesce(t.on_thread, false) AS on_thread,
    t.goals,
    g.goal,
    -- A clock that runs ahead must not reach it after all is over.
    least(g.goal_ns, u.last_ns) AS goal_ns,
    coalesce(
        l.failed, l.open, if(t.phase = 'end' AND t.status = 'paused', coalesce(l.waiting, b.place), NULL), l.leaf
    ) AS dropped_at,
    t.user_id,
    t.session_id,
    t.conversation_id,
    t.metadata,
    coalesce(t.started_ns, u.first_ns) AS started_ns,
    if(t.phase = 'end', coalesce(t.ended_ns, t.at_ns), NULL) AS ended_ns,
    u.first_ns,
    u.last_ns,
    t.error_type,
    t.error_message,
    coalesce(l.steps, 0) AS steps,
    u.errors::BIGINT AS errors,
    u.unknown_step_records,
    u.llm_calls,
    u.tool_calls,
    u.calls_without_usage,
    u.unpriced_calls,
    if(u.llm_calls = 0, 0, u.input_tokens)::BIGINT AS input_tokens,
    if(u.llm_calls = 0, 0, u.output_tokens)::BIGINT AS output_tokens,
    if(u.llm_calls = 0, 0, u.cache_read_tokens)::BIGINT AS cache_read_tokens,
    if(u.llm_calls = 0, 0, u.cache_write_tokens)::BIGINT AS cache_write_tokens,
    if(u.llm_calls = 0, 0, u.reasoning_tokens)::BIGINT AS reasoning_tokens,
    if(u.llm_calls = 0, 0, u.total_tokens)::BIGINT AS total_tokens,
    if(u.llm_calls = 0, 0, u.cost_usd)::DOUBLE AS cost_usd,
    t.answers,
    t.resolution,
    t.origin_turn_id,
    t.origin_superstep,
    m.mark
FROM sums u
LEFT JOIN t ON t.turn_id = u.turn_id
LEFT JOIN left_at l ON l.turn_id = u.turn_id
LEFT JOIN goals g ON g.turn_id = u.turn_id
LEFT JOIN breakpoints b ON b.turn_id = u.turn_id
LEFT JOIN marked m ON m.turn_id = u.turn_id;
