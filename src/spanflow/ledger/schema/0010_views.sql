-- What people ask, and what is kept to answer fast. Times are TIMESTAMP in UTC, durations milliseconds, unknown null.
-- No if(…): what a newer DuckDB stores of it, an older one does not know.
-- In the body of a macro that others call, a column that may be the name of a parameter of theirs is named with its table.
-- This file holds no data of its own: it gets a new number whenever it changes, and is applied anew to every ledger.


CREATE OR REPLACE MACRO to_time(ns) AS make_timestamp(ns // 1000);
-- greatest() skips nulls, and an unknown end must not make a duration of zero.
CREATE OR REPLACE MACRO to_ms(from_ns, until_ns) AS
    CASE WHEN until_ns < from_ns THEN 0 ELSE until_ns - from_ns END / 1e6;
CREATE OR REPLACE MACRO event_list(events) AS
    json_transform(events, '[{"kind":"VARCHAR","name":"VARCHAR","at_ns":"BIGINT","payload":"JSON"}]');
-- A part that is zero spent nothing, one that is null does not know.
CREATE OR REPLACE MACRO known_sum(part) AS
    CASE WHEN count(*) > count(part) AND coalesce(sum(part), 0) = 0 THEN NULL ELSE sum(part) END;
-- A sum that is zero where there was no call, and null where there were calls and none knows.
CREATE OR REPLACE MACRO known_of(amount, calls) AS
    CASE WHEN coalesce(sum(calls), 0) = 0 THEN 0 ELSE sum(amount) FILTER (calls > 0) END;
-- Rules for the status of an engagement at an instant, and for why it was abandoned.
CREATE OR REPLACE MACRO status_of(any_open, any_unseen, goal, last_outcome, last_mark, has_goals, on_thread, is_idle) AS
    CASE
        WHEN any_open OR (any_unseen AND NOT is_idle) THEN 'active'
        WHEN goal IS NOT NULL THEN 'completed'
        WHEN last_outcome IN ('failed', 'interrupted') THEN last_outcome
        WHEN last_mark IS NOT NULL THEN 'abandoned'
        WHEN last_outcome = 'paused' THEN CASE WHEN is_idle THEN 'abandoned' ELSE 'paused' END
        WHEN has_goals OR last_outcome IN ('cancelled', 'left')
            THEN CASE WHEN on_thread AND NOT is_idle THEN 'active' ELSE 'abandoned' END
        ELSE 'completed'
    END;
CREATE OR REPLACE MACRO reason_of(status, last_outcome, last_mark) AS
    CASE
        WHEN status <> 'abandoned' THEN NULL
        WHEN last_mark IS NOT NULL THEN last_mark
        WHEN last_outcome IN ('cancelled', 'left') THEN 'interrupted'
        ELSE 'left'
    END;

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
    engagement_id,
    turn_id,
    trace_id,
    turn_id AS span_id,
    name,
    -- Whoever goes on without an answer after a run was cut off tries again.
    CASE
        WHEN turn_kind = 'resume' AND answers IS NULL
            AND lag(now_outcome) OVER before_there IN ('failed', 'interrupted', 'cancelled', 'left') THEN 'retry'
        ELSE turn_kind
    END AS kind,
    now_outcome AS outcome,
    graph_version,
    to_time(started_ns) AS started_at,
    to_time(ended_ns) AS ended_at,
    to_ms(started_ns, ended_ns) AS duration_ms,
    lag(turn_id) OVER before AS previous_turn_id,
    chain_id,
    answers::VARCHAR[] AS answers,
    coalesce(resolved, resolution) AS resolution,
    origin_turn_id,
    origin_step_id,
    on_thread,
    goals::VARCHAR[] AS goals,
    goal,
    CASE WHEN goal IS NOT NULL THEN to_time(goal_ns) END AS goal_at,
    dropped_at,
    error_type,
    error_message,
    user_id,
    session_id,
    conversation_id,
    metadata,
    steps,
    errors,
    llm_calls,
    tool_calls,
    input_tokens,
    output_tokens,
    cache_read_tokens,
    cache_write_tokens,
    reasoning_tokens,
    total_tokens,
    cost_usd,
    calls_without_usage,
    unpriced_calls,
    replayed_tokens,
    retried_tokens,
    forked_tokens,
    replayed_cost_usd,
    retried_cost_usd,
    forked_cost_usd,
    unknown_step_records,
    service_name,
    process_id
FROM (
    SELECT
        f.*,
        CASE
            WHEN NOT f.is_open THEN f.outcome
            WHEN p.process_id IS NOT NULL THEN 'interrupted'
            WHEN n.process_id IS NOT NULL
                AND to_time(f.last_ns) + (SELECT idle_after FROM meta)
                    < coalesce((SELECT as_of FROM meta), make_timestamp(epoch_us(now()))) THEN 'interrupted'
        END AS now_outcome
    FROM turn_facts f
    LEFT JOIN processes p ON p.process_id = f.process_id
    LEFT JOIN strangers n ON n.process_id = f.process_id
)
WINDOW
    before AS (PARTITION BY engagement_id ORDER BY started_ns, turn_id),
    before_there AS (PARTITION BY engagement_id, conversation_id ORDER BY started_ns, turn_id);

-- What the turns of some engagements (`ids`) add up to, as far as they were known at an instant.
CREATE OR REPLACE MACRO engagement_sums(instant_ns, ids) AS TABLE
WITH begun AS (
    SELECT
        f.*,
        -- What a service does for a turn is part of that turn, and the turn says how it went.
        f.turn_kind IS NOT DISTINCT FROM 'remote' AND NOT bool_and(f.turn_kind IS NOT DISTINCT FROM 'remote') OVER (
            PARTITION BY f.engagement_id
        ) AS is_aside,
        (f.is_open OR f.ended_ns > instant_ns) AS open_then,
        p.process_id IS NOT NULL AND f.is_open AND f.last_ns <= instant_ns AS interrupted_then,
        f.ended_ns > instant_ns OR (f.is_open AND f.last_ns > instant_ns) AS went_on,
        -- Nobody sees such a process die, so its silence decides.
        p.process_id IS NULL AND n.process_id IS NOT NULL AND f.is_open AS unseen,
        -- One whose process died was over with its last sign of life.
        CASE
            WHEN NOT f.is_open AND f.ended_ns <= instant_ns THEN f.ended_ns
            WHEN p.process_id IS NOT NULL AND f.is_open AND f.last_ns <= instant_ns THEN f.last_ns
        END AS over_ns
    FROM turn_facts f
    SEMI JOIN (SELECT unnest(ids) AS engagement_id) USING (engagement_id)
    LEFT JOIN processes p ON p.process_id = f.process_id
    LEFT JOIN strangers n ON n.process_id = f.process_id
    WHERE coalesce(f.started_ns <= instant_ns, true)
),
known AS (
    SELECT
        *,
        row_number() OVER latest AS from_last,
        -- Turns may run side by side, and no time counts twice.
        max(over_ns) OVER earlier AS before_ns,
        arg_max(CASE WHEN interrupted_then THEN 'interrupted' ELSE outcome END, over_ns)
            FILTER (NOT is_aside) OVER earlier AS before_outcome
    FROM begun
    WINDOW
        latest AS (PARTITION BY engagement_id ORDER BY is_aside, started_ns DESC, turn_id DESC),
        earlier AS (
            PARTITION BY engagement_id ORDER BY started_ns DESC, turn_id DESC
            ROWS BETWEEN 1 FOLLOWING AND UNBOUNDED FOLLOWING
        )
),
-- Turns that went on after the instant: where they were then.
underway AS (
    SELECT
        s.turn_id,
        coalesce(
            arg_max(s.place, s.spot) FILTER (s.status = 'failed' AND s.ended_ns <= instant_ns),
            arg_max(s.place, s.spot) FILTER ((s.ended_ns <= instant_ns) IS NOT TRUE),
            arg_max(s.place, row(s.spot.at_ns, s.place))
        ) AS place
    FROM (
        SELECT
            g.turn_id, r.status, r.ended_ns, coalesce(r.path, r.name, '') AS place,
            {'depth': len(string_split(place, '/')), 'at_ns': r.at_ns, 'place': place} AS spot
        FROM (SELECT turn_id FROM begun WHERE went_on) g
        JOIN records r ON r.turn_id = g.turn_id AND r.kind = 'step'
    ) s
    WHERE s.spot.at_ns <= instant_ns
    GROUP BY s.turn_id
)
SELECT
    engagement_id,
    arg_min(k.name, k.from_last) AS name,
    arg_min(k.user_id, k.from_last) AS user_id,
    arg_min(k.session_id, k.from_last) AS session_id,
    arg_min(k.conversation_id, k.from_last) AS conversation_id,
    arg_min(k.metadata, k.from_last) AS metadata,
    arg_min(k.service_name, k.from_last) AS service_name,
    min(k.started_ns) AS started_ns,
    min(k.first_ns) AS first_ns,
    max(least(k.last_ns, instant_ns)) AS last_seen_ns,
    bool_or(k.open_then AND NOT k.interrupted_then AND NOT k.unseen) AS any_open,
    bool_or(k.unseen) AS any_unseen,
    arg_min(k.goal, row(k.goal_ns, k.goal)) FILTER (k.goal_ns <= instant_ns) AS goal,
    bool_or(coalesce(json_array_length(k.goals) > 0, false) AND NOT k.is_aside) AS has_goals,
    max(CASE WHEN k.interrupted_then OR k.unseen THEN 'interrupted' ELSE k.outcome END) FILTER (k.from_last = 1) AS last_outcome,
    max(k.mark) FILTER (k.from_last = 1 AND NOT k.open_then) AS last_mark,
    -- A turn without a step, as a resume that only says that somebody gave up, leaves it where it stood before.
    arg_min(CASE WHEN k.went_on THEN u.place ELSE k.dropped_at END, k.from_last)
        FILTER (NOT k.is_aside) AS last_dropped_at,
    bool_or(k.on_thread) FILTER (k.from_last = 1) AS on_thread,
    count(*) AS turns,
    sum(k.steps)::BIGINT AS steps,
    sum(k.llm_calls)::BIGINT AS llm_calls,
    sum(k.tool_calls)::BIGINT AS tool_calls,
    sum(k.errors)::BIGINT AS errors,
    -- Turns without calls say zero, which must not hide that those with calls do not know.
    known_of(k.input_tokens, k.llm_calls)::BIGINT AS input_tokens,
    known_of(k.output_tokens, k.llm_calls)::BIGINT AS output_tokens,
    known_of(k.cache_read_tokens, k.llm_calls)::BIGINT AS cache_read_tokens,
    known_of(k.cache_write_tokens, k.llm_calls)::BIGINT AS cache_write_tokens,
    known_of(k.reasoning_tokens, k.llm_calls)::BIGINT AS reasoning_tokens,
    known_of(k.total_tokens, k.llm_calls)::BIGINT AS total_tokens,
    known_of(k.cost_usd::DECIMAL(38, 15), k.llm_calls)::DOUBLE AS cost_usd,
    sum(k.calls_without_usage)::BIGINT AS calls_without_usage,
    sum(k.unpriced_calls)::BIGINT AS unpriced_calls,
    known_sum(k.replayed_tokens)::BIGINT AS replayed_tokens,
    known_sum(k.retried_tokens)::BIGINT AS retried_tokens,
    known_sum(k.forked_tokens)::BIGINT AS forked_tokens,
    known_sum(k.replayed_cost_usd::DECIMAL(38, 15))::DOUBLE AS replayed_cost_usd,
    known_sum(k.retried_cost_usd::DECIMAL(38, 15))::DOUBLE AS retried_cost_usd,
    known_sum(k.forked_cost_usd::DECIMAL(38, 15))::DOUBLE AS forked_cost_usd,
    coalesce(sum(greatest(k.over_ns - greatest(k.started_ns, coalesce(k.before_ns, k.started_ns)), 0)), 0) / 1e6 AS working_ms,
    coalesce(sum(greatest(k.started_ns - k.before_ns, 0)) FILTER (k.before_outcome = 'paused'), 0) / 1e6 AS waiting_ms
FROM known k
LEFT JOIN underway u USING (turn_id)
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
        status_of(
            s.any_open, s.any_unseen, s.goal, s.last_outcome, s.last_mark, s.has_goals, s.on_thread, is_idle
        ) AS status
    FROM summed s
    CROSS JOIN clock c
)
SELECT
    j.engagement_id,
    j.name,
    j.status,
    j.goal,
    CASE WHEN j.status IN ('abandoned', 'failed', 'interrupted') THEN j.last_dropped_at END AS dropped_at,
    reason_of(j.status, j.last_outcome, j.last_mark) AS abandon_reason,
    j.last_dropped_at AS last_step,
    j.user_id,
    j.session_id,
    j.conversation_id,
    j.metadata,
    to_time(j.started_ns) AS started_at,
    to_time(j.last_seen_ns) AS last_seen_at,
    CASE WHEN j.status NOT IN ('active', 'paused') THEN to_time(j.last_seen_ns) END AS ended_at,
    j.turns,
    j.steps,
    j.llm_calls,
    j.tool_calls,
    j.errors,
    j.input_tokens,
    j.output_tokens,
    j.cache_read_tokens,
    j.cache_write_tokens,
    j.reasoning_tokens,
    j.total_tokens,
    j.cost_usd,
    j.calls_without_usage,
    j.unpriced_calls,
    j.replayed_tokens,
    j.retried_tokens,
    j.forked_tokens,
    j.replayed_cost_usd,
    j.retried_cost_usd,
    j.forked_cost_usd,
    j.working_ms,
    j.waiting_ms,
    j.service_name
FROM judged j;

CREATE OR REPLACE VIEW engagements AS FROM engagements();

-- Every change of one engagement's status: the same rules, at each instant at which anything can change.
CREATE OR REPLACE MACRO status_history(engagement_id, idle_after := NULL, as_of := NULL) AS TABLE
WITH clock AS (
    SELECT
        coalesce(as_of::TIMESTAMP, m.as_of, make_timestamp(epoch_us(now()))) AS instant,
        coalesce(idle_after::INTERVAL, m.idle_after) AS patience
    FROM meta m
),
mine AS (
    SELECT
        f.turn_id,
        f.outcome,
        f.is_open,
        f.goal,
        f.goal_ns,
        coalesce(json_array_length(f.goals) > 0, false) AS has_goals,
        f.on_thread,
        f.mark,
        f.dropped_at,
        f.started_ns,
        f.ended_ns,
        f.last_ns,
        p.process_id IS NOT NULL AS is_gone,
        p.process_id IS NULL AND n.process_id IS NOT NULL AND f.is_open AS unseen,
        f.turn_kind IS NOT DISTINCT FROM 'remote' AS is_remote,
        row_number() OVER (ORDER BY f.started_ns, f.turn_id) AS nth
    FROM turn_facts f
    LEFT JOIN processes p ON p.process_id = f.process_id
    LEFT JOIN strangers n ON n.process_id = f.process_id
    WHERE f.engagement_id = engagement_id
),
instants AS (
    SELECT moment, max_by(turn_id, nth) AS turn_id
    FROM (
        SELECT to_time(unnest([started_ns, ended_ns, goal_ns, last_ns])) AS moment, turn_id, nth FROM mine
        UNION ALL
        SELECT to_time(m.last_ns) + c.patience + INTERVAL 1 MICROSECOND, NULL, NULL FROM mine m CROSS JOIN clock c
    )
    WHERE moment <= (SELECT instant FROM clock)
    GROUP BY moment
),
known AS (
    SELECT
        i.moment,
        i.turn_id AS cause_id,
        epoch_us(i.moment) * 1000 + 999 AS instant_ns,
        m.*,
        (m.is_open OR m.ended_ns > instant_ns) AS open_then,
        m.is_gone AND m.is_open AND m.last_ns <= instant_ns AS interrupted_then,
        m.is_remote AND NOT bool_and(m.is_remote) OVER (PARTITION BY i.moment) AS is_aside,
        row_number() OVER (PARTITION BY i.moment ORDER BY m.is_remote, m.nth DESC) AS from_last,
        from_last = 1 AS is_last
    FROM instants i
    JOIN mine m ON m.started_ns <= epoch_us(i.moment) * 1000 + 999
),
summed AS (
    SELECT
        moment,
        cause_id,
        bool_or(open_then AND NOT interrupted_then AND NOT unseen) AS any_open,
        bool_or(unseen) AS any_unseen,
        min(goal) FILTER (goal_ns <= instant_ns) AS goal,
        bool_or(has_goals AND NOT is_aside) AS has_goals,
        max(CASE WHEN interrupted_then OR unseen THEN 'interrupted' ELSE outcome END) FILTER (is_last) AS last_outcome,
        max(mark) FILTER (is_last AND NOT open_then) AS last_mark,
        arg_min(dropped_at, from_last) FILTER (NOT is_aside) AS last_dropped_at,
        bool_or(on_thread) FILTER (is_last) AS on_thread,
        to_time(max(least(last_ns, instant_ns))) + (SELECT patience FROM clock) < moment AS is_idle
    FROM known
    GROUP BY moment, cause_id
),
judged AS (
    SELECT
        *,
        status_of(any_open, any_unseen, goal, last_outcome, last_mark, has_goals, on_thread, is_idle) AS status,
        reason_of(status, last_outcome, last_mark) AS abandon_reason,
        CASE WHEN status IN ('abandoned', 'failed', 'interrupted') THEN last_dropped_at END AS dropped_at
    FROM summed
),
changed AS (
    FROM judged
    QUALIFY row(status, abandon_reason, dropped_at)
        IS DISTINCT FROM lag(row(status, abandon_reason, dropped_at)) OVER (ORDER BY moment)
)
SELECT
    status,
    moment AS since,
    lead(moment) OVER (ORDER BY moment) AS until,
    abandon_reason,
    dropped_at,
    cause_id AS turn_id
FROM changed
ORDER BY since;

CREATE OR REPLACE VIEW steps AS
SELECT
    r.engagement_id,
    r.turn_id,
    r.span_id AS step_id,
    r.parent_step_id,
    r.name,
    coalesce(r.path, r.name) AS path,
    coalesce(r.chain_visit, r.visit) AS visit,
    r.attempts,
    r.execution_id,
    r.triggered_by::VARCHAR[] AS triggered_by,
    CASE WHEN r.phase = 'end' THEN r.status WHEN p.process_id IS NOT NULL THEN 'interrupted'
        ELSE coalesce(r.status, 'running') END AS status,
    coalesce(r.is_global, false) AS is_global,
    coalesce(r.replayed, false) OR r.repeats IS NOT NULL AS replayed,
    r.tools_available::VARCHAR[] AS tools_available,
    r.agent_name,
    r.superstep,
    r.goal,
    to_time(r.started_ns) AS started_at,
    to_time(r.ended_ns) AS ended_at,
    to_ms(r.started_ns, r.ended_ns) AS duration_ms,
    to_ms(r.started_ns, r.ended_ns) AS working_ms,
    to_ms(coalesce(r.ended_ns, w.asked_ns), w.answered_ns) AS waiting_ms,
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
    r.used_replayed_tokens AS replayed_tokens,
    r.used_retried_tokens AS retried_tokens,
    r.used_forked_tokens AS forked_tokens,
    r.used_replayed_cost_usd AS replayed_cost_usd,
    r.used_retried_cost_usd AS retried_cost_usd,
    r.used_forked_cost_usd AS forked_cost_usd,
    r.trace_id,
    r.span_id,
    r.parent_span_id,
    r.process_id,
    r.at_ns AS occurred_ns
FROM records r
LEFT JOIN processes p ON p.process_id = r.process_id
-- The engagement too, so that asking for one reads the questions of no other.
LEFT JOIN (
    SELECT engagement_id, turn_id, step_id, min(asked_ns) AS asked_ns, max(answered_ns) AS answered_ns
    FROM (
        SELECT engagement_id, turn_id, unnest(around) AS step_id, asked_ns, answered_ns
        FROM wait_facts
        WHERE answered_ns IS NOT NULL
    )
    GROUP BY ALL
) w ON w.engagement_id = r.engagement_id AND w.turn_id = r.turn_id AND w.step_id = r.span_id
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
    coalesce(replayed, false) OR coalesce(repeats = 'replay', false) AS replayed,
    repeats,
    status,
    error_type,
    error_message,
    to_time(started_ns) AS started_at,
    to_time(ended_ns) AS ended_at,
    to_ms(started_ns, ended_ns) AS duration_ms,
    time_to_first_token_ms,
    agent_name,
    caller,
    TRY_CAST(json_extract_string(attributes, '$."spanflow.call.metadata"') AS JSON) AS metadata,
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
    coalesce(replayed, false) OR coalesce(repeats = 'replay', false) AS replayed,
    repeats,
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

CREATE OR REPLACE MACRO waits(as_of := NULL) AS TABLE
SELECT
    w.engagement_id,
    w.turn_id,
    w.step_id,
    w.step_name,
    w.path,
    w.interrupt_id,
    w.kind,
    w.label,
    w.payload,
    to_time(w.asked_ns) AS asked_at,
    to_time(w.known_ns) AS answered_at,
    to_ms(w.asked_ns, w.known_ns) AS waited_ms,
    CASE WHEN w.known_ns IS NOT NULL THEN w.resolution END AS resolution,
    w.known_ns IS NULL AS is_open,
    CASE WHEN w.known_ns IS NOT NULL THEN w.answered_turn_id END AS answered_turn_id,
    w.trace_id,
    w.span_id,
    w.at_ns AS occurred_ns
FROM (
    SELECT *, CASE WHEN answered_ns <= instant_ns OR instant_ns IS NULL THEN answered_ns END AS known_ns
    FROM wait_facts
    CROSS JOIN (
        -- The last nanosecond of that microsecond.
        SELECT epoch_us(coalesce(as_of::TIMESTAMP, m.as_of)) * 1000 + 999 AS instant_ns
        FROM meta m
    )
    WHERE is_first AND (asked_ns <= instant_ns OR instant_ns IS NULL)
) w;

CREATE OR REPLACE VIEW waits AS FROM waits();

CREATE OR REPLACE VIEW transitions AS
WITH placed AS NOT MATERIALIZED (
    SELECT
        engagement_id,
        turn_id,
        coalesce(parent_step_id, '') AS frame,
        coalesce(path, name) AS path,
        at_ns,
        ended_ns,
        span_id,
        status,
        execution_id,
        superstep,
        triggered_by,
        count(triggered_by) OVER (PARTITION BY engagement_id, turn_id, coalesce(parent_step_id, '')) > 0 AS is_told,
        -- The steps of one superstep run side by side; without supersteps each step follows the one that began before.
        dense_rank() OVER (
            PARTITION BY engagement_id, turn_id, coalesce(parent_step_id, '')
            ORDER BY superstep NULLS LAST,
                CASE WHEN superstep IS NULL THEN at_ns ELSE 0 END,
                CASE WHEN superstep IS NULL THEN span_id ELSE '' END
        ) AS place
    FROM records
    WHERE kind = 'step' AND turn_id IS NOT NULL
),
edges AS NOT MATERIALIZED (
    SELECT b.engagement_id, b.turn_id, a.path, b.path AS to_path, b.at_ns, a.ended_ns, a.span_id, b.span_id AS to_id
    FROM placed a
    JOIN placed b
        ON a.engagement_id IS NOT DISTINCT FROM b.engagement_id
        AND a.turn_id = b.turn_id
        AND a.frame = b.frame
        AND a.place + 1 = b.place
    WHERE NOT b.is_told
    UNION ALL
    SELECT b.engagement_id, b.turn_id, a.path, b.path, b.at_ns, a.ended_ns, a.span_id, b.span_id
    FROM (SELECT *, unnest(triggered_by::VARCHAR[]) AS cause_id FROM placed WHERE triggered_by IS NOT NULL) b
    JOIN placed a
        ON a.engagement_id IS NOT DISTINCT FROM b.engagement_id
        AND a.turn_id = b.turn_id
        AND a.span_id = b.cause_id
    UNION ALL
    -- Of a step that ended in an earlier turn, its execution is known.
    (
        SELECT b.engagement_id, b.turn_id, a.path, b.path, b.at_ns, a.ended_ns, a.span_id, b.span_id
        FROM (SELECT *, unnest(triggered_by::VARCHAR[]) AS cause_id FROM placed WHERE triggered_by IS NOT NULL) b
        JOIN placed a
            ON a.engagement_id = b.engagement_id
            AND a.execution_id = b.cause_id
            AND a.turn_id <> b.turn_id
            AND a.status = 'completed'
            AND a.at_ns <= b.at_ns
        QUALIFY row_number() OVER (PARTITION BY b.turn_id, b.span_id, b.cause_id ORDER BY a.at_ns DESC, a.span_id) = 1
    )
    UNION ALL
    -- A turn that goes on: from where the one before stopped. What is taken up itself goes from nowhere to nowhere.
    SELECT b.engagement_id, b.turn_id, a.path, b.path, b.at_ns, a.ended_ns, a.span_id, b.span_id
    FROM (
        SELECT
            turn_id,
            engagement_id,
            lag(turn_id) OVER (PARTITION BY engagement_id, chain_id ORDER BY started_ns, turn_id) AS before_id
        FROM turn_facts
        WHERE chain_id IS NOT NULL
    ) t
    JOIN (
        FROM placed
        WHERE frame = ''
        QUALIFY superstep = min(superstep) OVER (PARTITION BY engagement_id, turn_id)
    ) b ON b.turn_id = t.turn_id AND b.engagement_id = t.engagement_id
    JOIN (
        FROM placed
        WHERE frame = ''
        QUALIFY superstep = max(superstep) OVER (PARTITION BY engagement_id, turn_id)
    ) a ON a.turn_id = t.before_id AND a.engagement_id = t.engagement_id
    WHERE a.status = 'completed'
    AND a.superstep < b.superstep
    AND (a.execution_id = b.execution_id) IS NOT TRUE
)
SELECT
    engagement_id,
    turn_id,
    path AS from_step,
    to_path AS to_step,
    to_time(at_ns) AS occurred_at,
    to_ms(ended_ns, at_ns) AS gap_ms,
    span_id AS from_step_id,
    to_id AS to_step_id
FROM edges;

CREATE OR REPLACE VIEW handoffs AS
SELECT
    engagement_id,
    from_agent,
    agent_name AS to_agent,
    count(*) AS handoffs,
    to_time(min(at_ns)) AS first_at,
    to_time(max(at_ns)) AS last_at
FROM (
    SELECT
        s.engagement_id,
        s.agent_name,
        s.at_ns,
        lag(s.agent_name) OVER (
            PARTITION BY s.engagement_id, coalesce(t.chain_id, s.turn_id)
            ORDER BY t.started_ns, s.turn_id, s.at_ns, s.span_id
        ) AS from_agent
    FROM records s
    -- Only what did the work itself: a step around others belongs to whoever it calls.
    ANTI JOIN (
        SELECT engagement_id, turn_id, parent_step_id FROM records WHERE kind = 'step' AND agent_name IS NOT NULL
    ) i ON i.engagement_id = s.engagement_id AND i.turn_id = s.turn_id AND i.parent_step_id = s.span_id
    JOIN turn_facts t ON t.turn_id = s.turn_id AND t.engagement_id = s.engagement_id
    WHERE s.kind = 'step' AND s.agent_name IS NOT NULL
)
WHERE from_agent <> agent_name
GROUP BY engagement_id, from_agent, agent_name;

-- What the user of one engagement waited for: from each turn's last step back to what it had to wait for, the calls inside
-- them, and the people between the turns.
CREATE OR REPLACE MACRO critical_path(engagement_id) AS TABLE
WITH RECURSIVE
bounds AS (
    SELECT min(f.first_ns) AS low_ns, max(f.last_ns) AS high_ns FROM turn_facts f WHERE f.engagement_id = engagement_id
),
mine AS (
    SELECT
        r.turn_id,
        r.span_id,
        r.parent_step_id,
        r.name,
        coalesce(r.path, r.name) AS path,
        r.triggered_by::VARCHAR[] AS triggered_by,
        r.started_ns,
        r.ended_ns
    FROM records r
    WHERE r.engagement_id = engagement_id
    AND r.kind = 'step'
    AND r.at_ns BETWEEN (SELECT low_ns FROM bounds) AND (SELECT high_ns FROM bounds)
    AND r.ended_ns >= r.started_ns
),
-- Every step with those around it and itself. UNION forgets repetitions, so a circle of parents ends.
up AS (
    SELECT m.turn_id, m.span_id, m.span_id AS around_id, 0 AS height FROM mine m
    UNION
    SELECT u.turn_id, u.span_id, m.parent_step_id, u.height + 1
    FROM up u
    JOIN mine m ON m.turn_id = u.turn_id AND m.span_id = u.around_id
    WHERE m.parent_step_id IS NOT NULL AND u.height < 64
),
leaves AS (
    SELECT m.*
    FROM mine m
    ANTI JOIN mine i ON i.turn_id = m.turn_id AND i.parent_step_id = m.span_id
),
-- A nested graph's first step was caused by what caused the step around it.
causes AS (
    SELECT l.turn_id, l.span_id, arg_min(m.triggered_by, u.height) AS triggered_by
    FROM leaves l
    JOIN up u ON u.turn_id = l.turn_id AND u.span_id = l.span_id
    JOIN mine m ON m.turn_id = u.turn_id AND m.span_id = u.around_id
    WHERE m.triggered_by IS NOT NULL
    GROUP BY l.turn_id, l.span_id
),
caused AS (
    SELECT l.turn_id, l.span_id, arg_max(b.span_id, row(b.ended_ns, b.span_id)) AS before_id
    FROM leaves l
    JOIN causes c ON c.turn_id = l.turn_id AND c.span_id = l.span_id
    JOIN up u ON u.turn_id = l.turn_id AND list_contains(c.triggered_by, u.around_id)
    JOIN leaves b ON b.turn_id = u.turn_id AND b.span_id = u.span_id
    WHERE b.ended_ns <= l.started_ns
    GROUP BY l.turn_id, l.span_id
),
-- Where nobody tells a cause, it is what ended last before.
followed AS (
    SELECT l.turn_id, l.span_id, arg_max(b.span_id, row(b.ended_ns, b.span_id)) AS before_id
    FROM leaves l
    JOIN leaves b ON b.turn_id = l.turn_id AND b.ended_ns <= l.started_ns AND b.span_id <> l.span_id
    GROUP BY l.turn_id, l.span_id
),
walked AS (
    SELECT l.turn_id, arg_max(l.span_id, row(l.ended_ns, l.span_id)) AS span_id FROM leaves l GROUP BY l.turn_id
    UNION
    SELECT w.turn_id, coalesce(c.before_id, f.before_id)
    FROM walked w
    LEFT JOIN caused c ON c.turn_id = w.turn_id AND c.span_id = w.span_id
    LEFT JOIN followed f ON f.turn_id = w.turn_id AND f.span_id = w.span_id
    WHERE coalesce(c.before_id, f.before_id) IS NOT NULL
),
on_path AS (
    SELECT l.* FROM leaves l JOIN walked w ON w.turn_id = l.turn_id AND w.span_id = l.span_id
),
calls AS (
    SELECT
        r.turn_id,
        r.step_id,
        r.span_id,
        CASE WHEN r.kind = 'tool' THEN 'tool_call' ELSE 'llm_call' END AS kind,
        CASE WHEN r.kind = 'tool' THEN r.name ELSE coalesce(r.model, r.request_model) END AS name,
        o.path,
        greatest(r.started_ns, o.started_ns) AS started_ns,
        least(r.ended_ns, o.ended_ns) AS ended_ns
    FROM records r
    JOIN on_path o ON o.turn_id = r.turn_id AND o.span_id = r.step_id
    WHERE r.engagement_id = engagement_id
    AND r.kind IN ('llm', 'embeddings', 'tool')
    AND r.counted
    AND r.at_ns BETWEEN (SELECT low_ns FROM bounds) AND (SELECT high_ns FROM bounds)
    AND r.ended_ns >= r.started_ns
    AND r.started_ns < o.ended_ns
    AND r.ended_ns > o.started_ns
),
-- Of calls side by side the one that ended last made the step wait, then the last that had ended before it began.
called AS (
    SELECT c.turn_id, c.step_id, arg_max(c.span_id, row(c.ended_ns, c.span_id)) AS span_id
    FROM calls c
    GROUP BY c.turn_id, c.step_id
    UNION
    SELECT b.turn_id, b.step_id, b.span_id
    FROM called w
    JOIN (
        SELECT a.turn_id, a.step_id, a.span_id AS after_id, arg_max(c.span_id, row(c.ended_ns, c.span_id)) AS span_id
        FROM calls a
        JOIN calls c
            ON c.turn_id = a.turn_id AND c.step_id = a.step_id
            AND c.ended_ns <= a.started_ns AND c.span_id <> a.span_id
        GROUP BY ALL
    ) b ON b.turn_id = w.turn_id AND b.step_id = w.step_id AND b.after_id = w.span_id
),
made AS (SELECT c.* FROM calls c SEMI JOIN called w ON w.turn_id = c.turn_id AND w.span_id = c.span_id),
turns_in_order AS (
    SELECT
        f.turn_id,
        f.started_ns,
        max(f.over_ns) OVER earlier AS before_ns,
        arg_max(f.outcome, f.over_ns) OVER earlier AS before_outcome,
        arg_max(f.turn_id, f.over_ns) OVER earlier AS before_id
    FROM (
        SELECT
            t.turn_id,
            t.started_ns,
            CASE WHEN NOT t.is_open THEN t.ended_ns WHEN p.process_id IS NOT NULL THEN t.last_ns END AS over_ns,
            CASE WHEN t.is_open THEN 'interrupted' ELSE t.outcome END AS outcome
        FROM turn_facts t
        LEFT JOIN processes p ON p.process_id = t.process_id
        WHERE t.engagement_id = engagement_id
    ) f
    WINDOW earlier AS (ORDER BY f.started_ns, f.turn_id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
),
parts AS (
    SELECT m.turn_id, m.kind, m.name, m.path, m.started_ns, m.ended_ns, m.ended_ns - m.started_ns AS spent_ns, m.span_id
    FROM made m
    UNION ALL
    SELECT
        o.turn_id, 'step', o.name, o.path, o.started_ns, o.ended_ns,
        o.ended_ns - o.started_ns - coalesce(c.spent_ns, 0), o.span_id
    FROM on_path o
    LEFT JOIN (
        SELECT m.turn_id, m.step_id, sum(m.ended_ns - m.started_ns) AS spent_ns FROM made m GROUP BY ALL
    ) c ON c.turn_id = o.turn_id AND c.step_id = o.span_id
    UNION ALL
    SELECT
        t.before_id, 'wait', coalesce(w.label, w.step_name), w.path, t.before_ns, t.started_ns,
        t.started_ns - t.before_ns, w.span_id
    FROM turns_in_order t
    LEFT JOIN (
        SELECT q.turn_id, min_by(q, row(q.asked_ns, q.at_ns, q.span_id)) AS q FROM wait_facts q GROUP BY q.turn_id
    ) a ON a.turn_id = t.before_id
    LEFT JOIN LATERAL (
        SELECT a.q['label'] AS label, a.q['step_name'] AS step_name, a.q['path'] AS path, a.q['span_id'] AS span_id
    ) w ON true
    WHERE t.before_outcome = 'paused' AND t.started_ns > t.before_ns
)
SELECT
    row_number() OVER (ORDER BY p.started_ns, p.ended_ns DESC, p.kind = 'step' DESC, p.span_id) AS position,
    p.turn_id,
    p.kind,
    p.name,
    p.path,
    to_time(p.started_ns) AS started_at,
    to_time(p.ended_ns) AS ended_at,
    p.spent_ns / 1e6 AS duration_ms,
    p.spent_ns / nullif(sum(p.spent_ns) OVER (), 0) AS share,
    p.span_id
FROM parts p
ORDER BY position;

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

-- A number of one place, as its span told it when it ended: 0 where it told no call, null where it did not know.
CREATE OR REPLACE MACRO on_span(told, number) AS
    CASE
        WHEN coalesce(TRY_CAST(json_extract_string(told, '$."spanflow.usage.llm_calls"') AS BIGINT), 0) = 0 THEN 0
        ELSE TRY_CAST(json_extract_string(told, '$."spanflow.usage.' || number || '"') AS BIGINT)
    END;

-- Where spans, the ledger's sums and what frameworks say of their own do not agree. Costs are the ledger's alone.
CREATE OR REPLACE VIEW usage_conflicts AS
WITH RECURSIVE
calls AS (
    SELECT
        engagement_id, turn_id, step_id, trace_id, span_id, parent_span_id, kind, scope, source, started_ns, ended_ns, counted,
        not_counted_because, total_tokens
    FROM records
    WHERE kind IN ('llm', 'embeddings', 'tool') AND turn_id IS NOT NULL
),
reported AS (
    SELECT
        c.turn_id,
        count(*) FILTER (c.kind <> 'tool') AS llm_reports,
        count(*) FILTER (c.kind = 'tool') AS tool_reports,
        bool_or(c.not_counted_because = 'duplicate') AS any_duplicate,
        bool_or(c.not_counted_because IN ('nested', 'usage_on_nested')) AS any_nested,
        bool_or(c.scope <> 'spanflow' OR c.source <> 'capture' OR c.ended_ns > f.ended_ns) AS any_late
    FROM calls c
    JOIN turn_facts f ON f.turn_id = c.turn_id
    GROUP BY c.turn_id
),
turn_spans AS (
    SELECT turn_id, attributes
    FROM records
    WHERE kind = 'turn' AND phase = 'end'
        -- Told since this was written down, and by us.
        AND json_extract_string(attributes, '$."spanflow.usage.llm_calls"') IS NOT NULL
),
places AS (
    SELECT
        'turn' AS what, f.engagement_id, f.turn_id, NULL::VARCHAR AS step_id, f.turn_id AS span_id, t.attributes AS told,
        f.llm_calls, f.tool_calls, f.input_tokens, f.output_tokens, f.cache_read_tokens, f.cache_write_tokens,
        f.reasoning_tokens, f.total_tokens
    FROM turn_spans t
    JOIN turn_facts f ON f.turn_id = t.turn_id
    UNION ALL
    SELECT
        'step', s.engagement_id, s.turn_id, s.span_id, s.span_id, s.attributes, s.llm_calls, s.tool_calls,
        s.used_input_tokens, s.used_output_tokens, s.used_cache_read_tokens, s.used_cache_write_tokens,
        s.used_reasoning_tokens, s.used_total_tokens
    FROM records s
    SEMI JOIN turn_spans USING (turn_id)
    WHERE s.kind = 'step' AND s.phase = 'end' AND (s.attributes IS NOT NULL OR s.llm_calls > 0 OR s.tool_calls > 0)
),
numbers AS (
    SELECT
        what, engagement_id, turn_id, step_id, span_id,
        on_span(told, 'llm_calls') AS calls_on_spans,
        llm_calls AS calls_in_ledger,
        unnest([
            {'field': 'llm_calls', 'on_spans': on_span(told, 'llm_calls'), 'in_ledger': llm_calls},
            {
                'field': 'tool_calls',
                'on_spans': coalesce(TRY_CAST(json_extract_string(told, '$."spanflow.usage.tool_calls"') AS BIGINT), 0),
                'in_ledger': tool_calls
            },
            {'field': 'input_tokens', 'on_spans': on_span(told, 'input_tokens'), 'in_ledger': input_tokens},
            {'field': 'output_tokens', 'on_spans': on_span(told, 'output_tokens'), 'in_ledger': output_tokens},
            {'field': 'cache_read_tokens', 'on_spans': on_span(told, 'cache_read_tokens'), 'in_ledger': cache_read_tokens},
            {
                'field': 'cache_write_tokens',
                'on_spans': on_span(told, 'cache_write_tokens'),
                'in_ledger': cache_write_tokens
            },
            {'field': 'reasoning_tokens', 'on_spans': on_span(told, 'reasoning_tokens'), 'in_ledger': reasoning_tokens},
            {'field': 'total_tokens', 'on_spans': on_span(told, 'total_tokens'), 'in_ledger': total_tokens}
        ]) AS number
    FROM places
),
-- None and unknown are told apart by the calls.
differences AS (FROM numbers WHERE coalesce(number.on_spans, 0) <> coalesce(number.in_ledger, 0)),
-- UNION forgets repetitions, so a circle of parents ends.
within AS (
    SELECT c.turn_id, c.ended_ns, c.step_id
    FROM calls c
    SEMI JOIN differences USING (turn_id)
    WHERE c.step_id IS NOT NULL
    UNION
    SELECT w.turn_id, w.ended_ns, s.parent_step_id
    FROM within w
    JOIN records s ON s.turn_id = w.turn_id AND s.span_id = w.step_id AND s.kind = 'step'
    WHERE s.parent_step_id IS NOT NULL
),
-- A step that is cancelled may leave before the work inside it has noticed.
outlived AS (
    SELECT DISTINCT w.turn_id
    FROM within w
    JOIN records s ON s.turn_id = w.turn_id AND s.span_id = w.step_id AND s.kind = 'step'
    WHERE w.ended_ns > s.ended_ns
),
-- Agents and their like, which are no calls and tell what they believe their calls spent.
agents AS (
    SELECT engagement_id, turn_id, step_id, trace_id, span_id, input_tokens, output_tokens, total_tokens
    FROM records
    WHERE kind = 'span' AND coalesce(input_tokens, output_tokens, total_tokens) IS NOT NULL
),
-- UNION forgets repetitions, so a circle of parents ends.
inside AS (
    SELECT trace_id, span_id AS agent_id, span_id FROM agents
    UNION
    SELECT i.trace_id, i.agent_id, r.span_id
    FROM inside i
    JOIN records r ON r.trace_id = i.trace_id AND r.parent_span_id = i.span_id
),
agent_numbers AS (
    SELECT
        a.*,
        unnest([
            {'field': 'input_tokens', 'told': a.input_tokens, 'of_call': r.input_tokens},
            {'field': 'output_tokens', 'told': a.output_tokens, 'of_call': r.output_tokens},
            {'field': 'total_tokens', 'told': a.total_tokens, 'of_call': r.total_tokens}
        ]) AS number,
        r.scope,
        coalesce(r.counted, false) AS counted
    FROM agents a
    JOIN inside i ON i.trace_id = a.trace_id AND i.agent_id = a.span_id
    JOIN records r ON r.trace_id = i.trace_id AND r.span_id = i.span_id
    WHERE r.kind IN ('llm', 'embeddings')
),
agent_sums AS (
    SELECT
        engagement_id, turn_id, step_id, trace_id, span_id, number.field AS field, number.told AS told, scope,
        sum(number.of_call) AS by_scope,
        sum(number.of_call) FILTER (counted) AS counted
    FROM agent_numbers
    GROUP BY ALL
),
nested_sums AS (
    SELECT
        o.engagement_id, o.turn_id, o.step_id, o.span_id, o.total_tokens, i.scope, sum(i.total_tokens) AS inside
    FROM calls o
    JOIN calls i ON i.trace_id = o.trace_id AND i.parent_span_id = o.span_id
    WHERE o.counted AND o.kind <> 'tool' AND i.kind <> 'tool' AND i.not_counted_because = 'nested'
    GROUP BY ALL
)
SELECT
    n.engagement_id,
    n.turn_id,
    n.step_id,
    n.span_id,
    n.what,
    n.number.field AS field,
    n.number.on_spans AS on_spans,
    n.number.in_ledger AS in_ledger,
    CASE
        WHEN t.llm_reports < on_span(s.attributes, 'llm_calls') THEN 'lost_record'
        WHEN n.number.field = 'tool_calls' AND t.tool_reports < n.number.on_spans THEN 'lost_record'
        WHEN t.turn_id IS NULL THEN 'lost_record'
        WHEN n.calls_on_spans < n.calls_in_ledger AND (t.any_late OR o.turn_id IS NOT NULL) THEN 'late_span'
        WHEN
            n.number.field = 'tool_calls' AND n.number.on_spans < n.number.in_ledger
            AND (t.any_late OR o.turn_id IS NOT NULL)
            THEN 'late_span'
        WHEN t.any_duplicate THEN 'duplicate_scope'
        WHEN t.any_nested THEN 'nested_span'
        ELSE 'unexplained'
    END AS reason
FROM differences n
JOIN turn_spans s ON s.turn_id = n.turn_id
LEFT JOIN reported t ON t.turn_id = n.turn_id
LEFT JOIN outlived o ON o.turn_id = n.turn_id
UNION ALL
-- The parts' sum, and the total that is kept.
SELECT
    engagement_id, turn_id, step_id, span_id, 'call', 'total_tokens', coalesce(input_tokens, 0) + coalesce(output_tokens, 0),
    total_tokens, 'inconsistent_total'
FROM records
WHERE kind IN ('llm', 'embeddings') AND counted AND json_contains(usage_flags, '"inconsistent_total"')
UNION ALL
SELECT engagement_id, turn_id, step_id, span_id, 'call', 'total_tokens', NULL::BIGINT, total_tokens, 'refused'
FROM records
WHERE kind IN ('llm', 'embeddings') AND counted AND json_contains(usage_flags, '"refused"')
UNION ALL
SELECT engagement_id, turn_id, step_id, span_id, 'call', 'total_tokens', NULL::BIGINT, NULL::BIGINT, 'missing_usage'
FROM records
WHERE kind IN ('llm', 'embeddings') AND counted AND status = 'ok'
    AND coalesce(
        input_tokens, output_tokens, total_tokens, cache_read_tokens, cache_write_tokens, reasoning_tokens
    ) IS NULL
    AND NOT coalesce(json_contains(usage_flags, '"refused"'), false)
UNION ALL
-- What the calls inside it told, and the outer one, which counts.
SELECT engagement_id, turn_id, step_id, span_id, 'call', 'total_tokens', max(inside)::BIGINT, total_tokens, 'nested_span'
FROM nested_sums
GROUP BY engagement_id, turn_id, step_id, span_id, total_tokens
HAVING max(inside) <> total_tokens
UNION ALL
-- What another scope told of a call, and what the nearest call that counts told.
SELECT
    d.engagement_id, d.turn_id, d.step_id, d.span_id, 'call', 'total_tokens', d.total_tokens,
    arg_min(c.total_tokens, abs(c.started_ns - d.started_ns)), 'duplicate_scope'
FROM calls d
JOIN calls c
    ON c.turn_id = d.turn_id AND c.counted AND c.scope <> d.scope AND c.kind = d.kind
    AND c.started_ns <= d.ended_ns AND d.started_ns <= c.ended_ns
WHERE d.not_counted_because = 'duplicate' AND d.kind <> 'tool' AND d.total_tokens IS NOT NULL
GROUP BY d.engagement_id, d.turn_id, d.step_id, d.span_id, d.total_tokens
HAVING NOT bool_or(c.total_tokens = d.total_tokens)
UNION ALL
-- What an agent told, and what counts of the calls inside it; where it agrees with any one scope, nothing is wrong.
SELECT
    engagement_id, turn_id, step_id, span_id, 'agent', field, told::BIGINT, sum(counted)::BIGINT, 'framework_total'
FROM agent_sums
WHERE told IS NOT NULL
GROUP BY engagement_id, turn_id, step_id, trace_id, span_id, field, told
HAVING sum(counted) IS DISTINCT FROM told AND NOT bool_or(by_scope = told);
