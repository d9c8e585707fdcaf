-- What people ask, and what is kept to answer fast. Times are TIMESTAMP in UTC, durations milliseconds, unknown null.
-- No if(…): what a newer DuckDB stores of it, an older one does not know.
-- This file holds no data of its own: it gets a new number whenever it changes, and is applied anew to every ledger.


CREATE OR REPLACE MACRO to_time(ns) AS make_timestamp(ns // 1000);
-- greatest() skips nulls, and an unknown end must not make a duration of zero.
CREATE OR REPLACE MACRO to_ms(from_ns, until_ns) AS
    CASE WHEN until_ns < from_ns THEN 0 ELSE until_ns - from_ns END / 1e6;
CREATE OR REPLACE MACRO event_list(events) AS
    json_transform(events, '[{"kind":"VARCHAR","name":"VARCHAR","at_ns":"BIGINT","payload":"JSON"}]');

-- The rates for a call, or null: those set by hand before all others, a provider's own before everybody's, the newest
-- before the older, and of these the highest step that the call's input is above.
CREATE OR REPLACE MACRO rates_for(of_model, of_provider, on_day, given) AS (
    SELECT arg_max(
        {
            'input': p.input_usd_per_million, 'output': p.output_usd_per_million,
            'cache_read': p.cache_read_usd_per_million, 'cache_write': p.cache_write_usd_per_million,
            'reasoning': coalesce(p.reasoning_usd_per_million, p.output_usd_per_million)
        },
        row(p.source = 'set', p.provider IS NOT NULL, p.valid_from, p.above_input_tokens)
    )
    FROM prices p
    WHERE p.model = of_model
    AND (p.provider IS NULL OR p.provider = of_provider)
    AND p.valid_from <= on_day
    AND (p.above_input_tokens = 0 OR p.above_input_tokens < given)
);
-- What some tokens cost: nothing where there are none, unknown where nobody told their rate. Exact: no more than thirteen
-- digits of tokens, and sixteen behind the point of what one costs.
CREATE OR REPLACE MACRO tokens_usd(tokens, usd_per_million) AS
    CASE WHEN tokens = 0 THEN 0::DECIMAL(38, 16)
        WHEN tokens > 0
            THEN TRY_CAST(tokens AS DECIMAL(13, 0)) * (usd_per_million * 0.000001::DECIMAL(7, 6))::DECIMAL(25, 16)
    END;
-- What a call costs at some rates. Cached tokens are part of the input and reasoning is part of the output, each at a rate
-- of its own; numbers that contradict that have no price.
CREATE OR REPLACE MACRO usd_at(rates, given, produced, cache_read, cache_write, reasoning) AS
    CASE WHEN rates IS NOT NULL THEN
        tokens_usd(given::HUGEINT - coalesce(cache_read, 0) - coalesce(cache_write, 0), rates['input'])
        + tokens_usd(coalesce(cache_read, 0), rates['cache_read'])
        + tokens_usd(coalesce(cache_write, 0), rates['cache_write'])
        + tokens_usd(produced::HUGEINT - coalesce(reasoning, 0), rates['output'])
        + tokens_usd(coalesce(reasoning, 0), rates['reasoning'])
    END::DOUBLE;

CREATE OR REPLACE VIEW turns AS
SELECT
    f.engagement_id,
    f.turn_id,
    f.trace_id,
    f.turn_id AS span_id,
    f.name,
    f.turn_kind AS kind,
    CASE WHEN NOT f.is_open THEN f.outcome WHEN p.process_id IS NOT NULL THEN 'interrupted' END AS outcome,
    f.graph_version,
    to_time(f.started_ns) AS started_at,
    to_time(f.ended_ns) AS ended_at,
    to_ms(f.started_ns, f.ended_ns) AS duration_ms,
    lag(f.turn_id) OVER (PARTITION BY f.engagement_id ORDER BY f.started_ns, f.turn_id) AS previous_turn_id,
    f.on_thread,
    f.goals::VARCHAR[] AS goals,
    f.goal,
    to_time(f.goal_ns) AS goal_at,
    f.dropped_at,
    f.error_type,
    f.error_message,
    f.user_id,
    f.session_id,
    f.conversation_id,
    f.metadata,
    f.steps,
    f.errors,
    f.llm_calls,
    f.tool_calls,
    f.input_tokens,
    f.output_tokens,
    f.cache_read_tokens,
    f.cache_write_tokens,
    f.reasoning_tokens,
    f.total_tokens,
    f.cost_usd,
    f.calls_without_usage,
    f.unpriced_calls,
    f.unknown_step_records,
    f.service_name,
    f.process_id
FROM turn_facts f
LEFT JOIN processes p ON p.process_id = f.process_id;

-- What the turns of some engagements (`ids`) add up to, as far as they were known at an instant.
CREATE OR REPLACE MACRO engagement_sums(instant_ns, ids) AS TABLE
WITH known AS (
    SELECT
        f.*,
        p.process_id IS NOT NULL AND f.is_open AND f.last_ns <= instant_ns AS interrupted_then,
        (f.is_open OR f.ended_ns > instant_ns) AS open_then,
        row_number() OVER latest AS from_last,
        lag(f.started_ns) OVER latest AS next_started_ns
    FROM turn_facts f
    SEMI JOIN (SELECT unnest(ids) AS engagement_id) USING (engagement_id)
    LEFT JOIN processes p ON p.process_id = f.process_id
    WHERE coalesce(f.started_ns <= instant_ns, true)
    WINDOW latest AS (PARTITION BY f.engagement_id ORDER BY f.started_ns DESC, f.turn_id DESC)
)
SELECT
    engagement_id,
    arg_min(name, from_last) AS name,
    arg_min(user_id, from_last) AS user_id,
    arg_min(session_id, from_last) AS session_id,
    arg_min(conversation_id, from_last) AS conversation_id,
    arg_min(metadata, from_last) AS metadata,
    arg_min(service_name, from_last) AS service_name,
    min(started_ns) AS started_ns,
    min(first_ns) AS first_ns,
    max(least(last_ns, instant_ns)) AS last_seen_ns,
    bool_or(open_then AND NOT interrupted_then) AS any_open,
    arg_min(goal, row(goal_ns, goal)) FILTER (goal_ns <= instant_ns) AS goal,
    bool_or(coalesce(json_array_length(goals) > 0, false)) AS has_goals,
    max(CASE WHEN interrupted_then THEN 'interrupted' ELSE outcome END) FILTER (from_last = 1) AS last_outcome,
    max(dropped_at) FILTER (from_last = 1) AS last_dropped_at,
    bool_or(on_thread) FILTER (from_last = 1) AS on_thread,
    count(*) AS turns,
    sum(steps)::BIGINT AS steps,
    sum(llm_calls)::BIGINT AS llm_calls,
    sum(tool_calls)::BIGINT AS tool_calls,
    sum(errors)::BIGINT AS errors,
    -- Turns without calls say zero, which must not hide that those with calls do not know.
    CASE WHEN sum(llm_calls) = 0 THEN 0 ELSE sum(input_tokens) FILTER (llm_calls > 0) END::BIGINT AS input_tokens,
    CASE WHEN sum(llm_calls) = 0 THEN 0 ELSE sum(output_tokens) FILTER (llm_calls > 0) END::BIGINT AS output_tokens,
    CASE WHEN sum(llm_calls) = 0 THEN 0 ELSE sum(cache_read_tokens) FILTER (llm_calls > 0) END::BIGINT
        AS cache_read_tokens,
    CASE WHEN sum(llm_calls) = 0 THEN 0 ELSE sum(cache_write_tokens) FILTER (llm_calls > 0) END::BIGINT
        AS cache_write_tokens,
    CASE WHEN sum(llm_calls) = 0 THEN 0 ELSE sum(reasoning_tokens) FILTER (llm_calls > 0) END::BIGINT
        AS reasoning_tokens,
    CASE WHEN sum(llm_calls) = 0 THEN 0 ELSE sum(total_tokens) FILTER (llm_calls > 0) END::BIGINT AS total_tokens,
    CASE WHEN sum(llm_calls) = 0 THEN 0 ELSE sum(cost_usd::DECIMAL(38, 15)) FILTER (llm_calls > 0) END::DOUBLE
        AS cost_usd,
    sum(calls_without_usage)::BIGINT AS calls_without_usage,
    sum(unpriced_calls)::BIGINT AS unpriced_calls,
    coalesce(sum(greatest(ended_ns - started_ns, 0)) FILTER (NOT open_then), 0) / 1e6 AS working_ms,
    coalesce(
        sum(greatest(next_started_ns - ended_ns, 0)) FILTER (NOT open_then AND outcome = 'paused'), 0
    ) / 1e6 AS waiting_ms
FROM known
GROUP BY engagement_id;

-- One row an engagement, kept up to date by every ingest, so that a list of them reads no turns.
CREATE OR REPLACE TABLE engagement_facts AS
FROM engagement_sums(
    9223372036854775807, (SELECT list(DISTINCT engagement_id) FROM turn_facts WHERE engagement_id IS NOT NULL)
);

-- What happened until an instant is final for an engagement that was seen last before it; the few others are summed up
-- anew.
CREATE OR REPLACE MACRO engagements(as_of := NULL, idle_after := NULL) AS TABLE
WITH clock AS (
    SELECT
        -- The last nanosecond of that microsecond.
        epoch_us(coalesce(as_of::TIMESTAMP, m.as_of, make_timestamp(epoch_us(now())))) * 1000 + 999 AS instant_ns,
        coalesce(as_of::TIMESTAMP, m.as_of, make_timestamp(epoch_us(now()))) AS instant,
        coalesce(idle_after::INTERVAL, m.idle_after) AS patience
    FROM meta m
),
summed AS (
    FROM engagement_facts
    WHERE last_seen_ns <= (SELECT instant_ns FROM clock)
    UNION ALL
    FROM engagement_sums(
        (SELECT instant_ns FROM clock),
        (SELECT list(engagement_id) FROM engagement_facts WHERE last_seen_ns > (SELECT instant_ns FROM clock))
    )
),
judged AS (
    SELECT
        s.*,
        to_time(s.last_seen_ns) + c.patience < c.instant AS is_idle,
        CASE
            WHEN s.any_open THEN 'active'
            WHEN s.goal IS NOT NULL THEN 'completed'
            WHEN s.last_outcome = 'paused' THEN CASE WHEN is_idle THEN 'abandoned' ELSE 'paused' END
            WHEN s.last_outcome IN ('failed', 'interrupted') THEN s.last_outcome
            WHEN s.has_goals OR s.last_outcome IN ('cancelled', 'left')
                THEN CASE WHEN s.on_thread AND NOT is_idle THEN 'active' ELSE 'abandoned' END
            ELSE 'completed'
        END AS status
    FROM summed s
    CROSS JOIN clock c
)
SELECT
    engagement_id,
    name,
    status,
    goal,
    CASE WHEN status IN ('abandoned', 'failed', 'interrupted') THEN last_dropped_at END AS dropped_at,
    CASE
        WHEN status <> 'abandoned' THEN NULL
        WHEN last_outcome = 'paused' THEN 'no_answer'
        WHEN last_outcome IN ('cancelled', 'left') THEN last_outcome
        ELSE 'no_goal'
    END AS abandon_reason,
    user_id,
    session_id,
    conversation_id,
    metadata,
    to_time(started_ns) AS started_at,
    to_time(last_seen_ns) AS last_seen_at,
    CASE WHEN status NOT IN ('active', 'paused') THEN to_time(last_seen_ns) END AS ended_at,
    turns,
    steps,
    llm_calls,
    tool_calls,
    errors,
    input_tokens,
    output_tokens,
    cache_read_tokens,
    cache_write_tokens,
    reasoning_tokens,
    total_tokens,
    cost_usd,
    calls_without_usage,
    unpriced_calls,
    working_ms,
    waiting_ms,
    service_name
FROM judged;

CREATE OR REPLACE VIEW engagements AS FROM engagements();

CREATE OR REPLACE VIEW steps AS
SELECT
    r.engagement_id,
    r.turn_id,
    r.span_id AS step_id,
    r.parent_step_id,
    r.name,
    coalesce(r.path, r.name) AS path,
    r.visit,
    r.attempts,
    CASE WHEN r.phase = 'end' THEN r.status WHEN p.process_id IS NOT NULL THEN 'interrupted'
        ELSE coalesce(r.status, 'running') END AS status,
    coalesce(r.is_global, false) AS is_global,
    coalesce(r.replayed, false) AS replayed,
    r.tools_available::VARCHAR[] AS tools_available,
    r.agent_name,
    r.superstep,
    r.goal,
    to_time(r.started_ns) AS started_at,
    to_time(r.ended_ns) AS ended_at,
    to_ms(r.started_ns, r.ended_ns) AS duration_ms,
    r.error_type,
    r.error_message,
    r.error_stack,
    r.llm_calls,
    r.tool_calls,
    r.used_input_tokens AS input_tokens,
    r.used_output_tokens AS output_tokens,
    r.used_cache_read_tokens AS cache_read_tokens,
    r.used_cache_write_tokens AS cache_write_tokens,
    r.used_reasoning_tokens AS reasoning_tokens,
    r.used_total_tokens AS total_tokens,
    r.used_cost_usd AS cost_usd,
    r.calls_without_usage,
    r.unpriced_calls,
    r.trace_id,
    r.span_id,
    r.parent_span_id,
    r.process_id,
    r.at_ns AS occurred_ns
FROM records r
LEFT JOIN processes p ON p.process_id = r.process_id
WHERE r.kind = 'step';

CREATE OR REPLACE VIEW llm_calls AS
SELECT
    engagement_id,
    turn_id,
    step_id,
    step_name,
    operation,
    provider,
    model,
    request_model,
    response_id,
    input_tokens,
    output_tokens,
    cache_read_tokens,
    cache_write_tokens,
    reasoning_tokens,
    total_tokens,
    coalesce(cost_usd, priced_usd) AS cost_usd,
    CASE WHEN coalesce(cost_usd, priced_usd) IS NOT NULL THEN cost_usd IS NOT NULL END AS cost_reported,
    usage_flags::VARCHAR[] AS usage_flags,
    counted,
    not_counted_because,
    coalesce(replayed, false) AS replayed,
    status,
    error_type,
    error_message,
    to_time(started_ns) AS started_at,
    to_time(ended_ns) AS ended_at,
    to_ms(started_ns, ended_ns) AS duration_ms,
    time_to_first_token_ms,
    agent_name,
    caller,
    scope,
    source,
    service_name,
    trace_id,
    span_id,
    parent_span_id,
    at_ns AS occurred_ns
FROM records
WHERE kind IN ('llm', 'embeddings');

-- Every call at the rates of its own day, or of another: what it cost beside what it would have cost.
CREATE OR REPLACE MACRO repriced(on_day := NULL) AS TABLE
SELECT
    engagement_id,
    turn_id,
    step_id,
    provider,
    model,
    counted,
    to_time(started_ns) AS started_at,
    coalesce(cost_usd, priced_usd) AS cost_usd,
    CASE WHEN coalesce(cost_usd, priced_usd) IS NOT NULL THEN cost_usd IS NOT NULL END AS cost_reported,
    usd_at(
        rates,
        input_tokens,
        CASE WHEN kind = 'embeddings' THEN coalesce(output_tokens, 0) ELSE output_tokens END,
        cache_read_tokens,
        cache_write_tokens,
        reasoning_tokens
    ) AS repriced_usd,
    trace_id,
    span_id
FROM (
    SELECT
        *,
        rates_for(
            coalesce(model, request_model), provider, coalesce(on_day::DATE, to_time(at_ns)::DATE), input_tokens
        ) AS rates
    FROM records
    WHERE kind IN ('llm', 'embeddings')
);

CREATE OR REPLACE VIEW tool_calls AS
SELECT
    engagement_id,
    turn_id,
    step_id,
    step_name,
    name,
    call_id,
    arguments,
    result,
    status,
    error_type,
    error_message,
    counted,
    not_counted_because,
    coalesce(replayed, false) AS replayed,
    to_time(started_ns) AS started_at,
    to_time(ended_ns) AS ended_at,
    to_ms(started_ns, ended_ns) AS duration_ms,
    agent_name,
    scope,
    source,
    service_name,
    trace_id,
    span_id,
    parent_span_id,
    at_ns AS occurred_ns
FROM records
WHERE kind = 'tool';

CREATE OR REPLACE VIEW events AS
SELECT
    engagement_id,
    turn_id,
    step_id,
    CASE WHEN kind = 'tool' THEN 'tool_call' ELSE 'llm_call' END AS kind,
    CASE WHEN kind = 'tool' THEN name ELSE coalesce(model, request_model) END AS name,
    to_time(at_ns) AS occurred_at,
    CASE
        WHEN kind = 'tool'
            THEN json_object('arguments', arguments, 'result', result, 'status', status, 'error_type', error_type)
        ELSE json_object(
            'operation', operation, 'input_tokens', input_tokens, 'output_tokens', output_tokens,
            'total_tokens', total_tokens, 'cost_usd', coalesce(cost_usd, priced_usd), 'status', status,
            'error_type', error_type
        )
    END AS payload,
    trace_id,
    span_id,
    at_ns AS occurred_ns,
    at_ns AS span_ns
FROM records
WHERE kind IN ('llm', 'embeddings', 'tool') AND counted
UNION ALL
SELECT
    engagement_id,
    turn_id,
    step_id,
    event.kind,
    event.name,
    to_time(CASE WHEN event.at_ns BETWEEN 0 AND 4611686018427387903 THEN event.at_ns ELSE at_ns END),
    event.payload,
    trace_id,
    span_id,
    CASE WHEN event.at_ns BETWEEN 0 AND 4611686018427387903 THEN event.at_ns ELSE at_ns END,
    at_ns
FROM (
    SELECT kind, engagement_id, turn_id, step_id, trace_id, span_id, at_ns, unnest(event_list(events)) AS event
    FROM records
    WHERE kind IN ('turn', 'step', 'workflow', 'llm', 'embeddings') AND events IS NOT NULL AND counted IS NOT false
)
-- On calls only what is ours to tell: an error of a call is its step's.
WHERE kind IN ('turn', 'step', 'workflow') OR event.kind IN ('retry', 'fallback', 'cache.hit');

CREATE OR REPLACE VIEW waits AS
WITH ordered AS (
    SELECT
        *,
        lead(started_ns) OVER following AS next_started_ns,
        lead(turn_kind) OVER following AS next_kind
    FROM turn_facts
    WINDOW following AS (PARTITION BY engagement_id ORDER BY started_ns, turn_id)
)
SELECT
    r.engagement_id,
    r.turn_id,
    r.span_id AS step_id,
    r.name AS step_name,
    coalesce(r.path, r.name) AS path,
    coalesce(
        json_extract_string(r.asked.payload, '$.awaiting'),
        json_extract_string(r.asked.payload, '$.payload.awaiting'),
        nullif(r.asked.name, 'wait')
    ) AS label,
    nullif(json_extract(r.asked.payload, '$.payload')::VARCHAR, 'null')::JSON AS payload,
    to_time(coalesce(r.ended_ns, t.ended_ns)) AS asked_at,
    to_time(t.next_started_ns) AS answered_at,
    to_ms(coalesce(r.ended_ns, t.ended_ns), t.next_started_ns) AS waited_ms,
    CASE WHEN t.next_started_ns IS NOT NULL THEN
        CASE WHEN t.next_kind = 'resume' THEN 'answered' ELSE 'superseded' END
    END AS resolution,
    t.next_started_ns IS NULL AS is_open,
    r.trace_id,
    r.span_id,
    r.at_ns AS occurred_ns
FROM (
    SELECT *, list_last(list_filter(event_list(events), lambda event: event.kind = 'wait')) AS asked
    FROM records
    WHERE kind = 'step' AND status = 'waiting'
) r
-- The engagement too, so that asking for one reads the turns of no other.
JOIN ordered t ON t.turn_id = r.turn_id AND t.engagement_id = r.engagement_id
WHERE t.outcome = 'paused';

CREATE OR REPLACE VIEW transitions AS
WITH placed AS (
    SELECT
        engagement_id,
        turn_id,
        parent_step_id,
        coalesce(path, name) AS path,
        at_ns,
        span_id,
        -- The steps of one superstep run side by side; without supersteps each step follows the one that began before.
        dense_rank() OVER (
            PARTITION BY turn_id, parent_step_id
            ORDER BY superstep NULLS LAST,
                CASE WHEN superstep IS NULL THEN at_ns ELSE 0 END,
                CASE WHEN superstep IS NULL THEN span_id ELSE '' END
        ) AS place
    FROM records
    WHERE kind = 'step' AND turn_id IS NOT NULL
)
SELECT
    b.engagement_id,
    b.turn_id,
    a.path AS from_step,
    b.path AS to_step,
    to_time(b.at_ns) AS occurred_at,
    a.span_id AS from_step_id,
    b.span_id AS to_step_id
FROM placed a
JOIN placed b
    ON a.turn_id = b.turn_id
    AND coalesce(a.parent_step_id, '') = coalesce(b.parent_step_id, '')
    AND a.place + 1 = b.place;

CREATE OR REPLACE VIEW graphs AS FROM graph_versions;

CREATE OR REPLACE VIEW spans AS
SELECT
    kind,
    name,
    status,
    trace_id,
    span_id,
    parent_span_id,
    engagement_id,
    turn_id,
    step_id,
    to_time(started_ns) AS started_at,
    to_time(ended_ns) AS ended_at,
    to_ms(started_ns, ended_ns) AS duration_ms,
    error_type,
    error_message,
    attributes,
    events,
    links,
    scope,
    source,
    phase,
    service_name,
    process_id,
    started_ns,
    ended_ns
FROM records;

CREATE OR REPLACE VIEW diagnostics AS
SELECT 'refused_records' AS name, refused_records AS count FROM meta
UNION ALL SELECT 'quarantined_segments', quarantined_segments FROM meta
UNION ALL SELECT 'unknown_step_records', coalesce(sum(unknown_step_records), 0)::BIGINT FROM turn_facts
UNION ALL SELECT 'lost_records', coalesce(sum(lost), 0)::BIGINT FROM losses;
