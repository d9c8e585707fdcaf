-- What people ask of many engagements at once. Like the views, this file holds no data and gets a new number whenever it
-- changes; it stands on them. In a macro's body every column is named with its table: a bare name may be a parameter.

CREATE OR REPLACE MACRO is_number(json) AS json_type(json) IN ('BIGINT', 'UBIGINT', 'HUGEINT', 'UHUGEINT', 'DOUBLE');
CREATE OR REPLACE MACRO same_json(a, b) AS
    CASE
        WHEN is_number(a) AND is_number(b)
            THEN TRY_CAST(json_extract_string(a, '$') AS DOUBLE) = TRY_CAST(json_extract_string(b, '$') AS DOUBLE)
        WHEN json_type(a) IS DISTINCT FROM json_type(b) THEN false
        ELSE json_extract_string(a, '$') IS NOT DISTINCT FROM json_extract_string(b, '$')
    END;
-- Whether a JSON object has some keys of another, each with the same type and value: 1, "1" and true are three values.
CREATE OR REPLACE MACRO has_metadata(given, wanted, keys) AS
    len(list_filter(
        keys,
        lambda k: same_json(
            -- A pointer can name any key.
            json_extract(given, '/' || replace(replace(k, '~', '~0'), '/', '~1')),
            json_extract(wanted, '/' || replace(replace(k, '~', '~0'), '/', '~1'))
        ) IS NOT true
    )) = 0;
CREATE OR REPLACE MACRO fits(given, wanted) AS
    CASE
        WHEN wanted IS NULL THEN true
        WHEN json_type(wanted) <> 'OBJECT' THEN error('metadata must be an object, as in {''tier'': ''pro''}')
        ELSE has_metadata(given, wanted, json_keys(wanted))
    END;
-- Whether a text is what a key of an object says, where it says anything.
CREATE OR REPLACE MACRO same_text(text, wanted, key) AS
    CASE json_type(wanted, '$.' || key)
        WHEN 'NULL' THEN text IS NULL
        WHEN 'VARCHAR' THEN coalesce(text = json_extract_string(wanted, '$.' || key), false)
        ELSE json_type(wanted, '$.' || key) IS NULL
    END;

-- The engagements that a question is about.
CREATE OR REPLACE MACRO chosen(since, until, name, user_id, metadata, as_of, idle_after) AS TABLE
SELECT e.*
FROM engagements(as_of := as_of, idle_after := idle_after) e
WHERE (since IS NULL OR e.started_at >= since::TIMESTAMP)
    AND (until IS NULL OR e.started_at < until::TIMESTAMP)
    AND (name IS NULL OR e.name = name)
    AND (user_id IS NULL OR e.user_id = user_id)
    AND fits(e.metadata, metadata::JSON);

CREATE OR REPLACE MACRO repeated_tokens(is_repeated, tokens) AS
    CASE WHEN coalesce(bool_or(is_repeated), false) THEN sum(tokens) FILTER (is_repeated) ELSE 0 END::BIGINT;

-- The last nanosecond of the microsecond that is asked for; without one, all there will be.
CREATE OR REPLACE MACRO instant(as_of) AS TABLE
SELECT coalesce(epoch_us(coalesce(as_of::TIMESTAMP, m.as_of)) * 1000 + 999, 9223372036854775807) AS instant_ns FROM meta m;

-- Every run of a step as it was known at an instant.
CREATE OR REPLACE MACRO executions(as_of := NULL) AS TABLE
SELECT
    r.engagement_id,
    r.turn_id,
    r.trace_id,
    r.span_id AS step_id,
    coalesce(r.path, r.name, '') AS path,
    r.parent_step_id,
    r.superstep,
    r.chain_visit,
    r.at_ns,
    CASE WHEN r.ended_ns <= c.instant_ns THEN r.ended_ns END AS over_ns,
    to_ms(r.started_ns, over_ns) AS working_ms,
    CASE
        WHEN r.phase = 'end' AND (r.ended_ns > c.instant_ns) IS NOT true THEN r.status
        WHEN r.phase <> 'end' AND list_contains(c.gone, r.process_id) AND NOT list_contains(c.alive, r.turn_id)
            THEN 'interrupted'
        ELSE 'running'
    END AS status,
    coalesce(r.attempts, 1) AS attempts,
    r.llm_calls,
    r.tool_calls,
    r.used_input_tokens AS input_tokens,
    r.used_output_tokens AS output_tokens,
    r.used_total_tokens AS total_tokens,
    r.used_cost_usd AS cost_usd,
    r.calls_without_usage,
    r.unpriced_calls,
    r.used_replayed_tokens AS replayed_tokens,
    r.used_retried_tokens AS retried_tokens,
    r.used_forked_tokens AS forked_tokens
FROM records r
-- Lists and no joins: who does not ask for the status does not pay for it.
CROSS JOIN (
    SELECT
        n.instant_ns,
        coalesce((SELECT list(p.process_id) FROM processes p), []) AS gone,
        coalesce(
            (SELECT list(f.turn_id) FROM turn_facts f WHERE f.is_open AND f.last_ns > n.instant_ns), []
        ) AS alive
    FROM instant(as_of) n
) c
WHERE r.kind = 'step' AND r.engagement_id IS NOT NULL AND r.at_ns <= c.instant_ns;

-- One row a visit: a step that paused and was taken up again is visited once.
CREATE OR REPLACE MACRO visits(as_of := NULL) AS TABLE
SELECT
    x.engagement_id, x.turn_id, x.turn_id AS first_turn_id, x.trace_id, x.step_id, x.path, x.parent_step_id, x.superstep,
    to_time(x.at_ns) AS started_at,
    to_time(x.over_ns) AS ended_at,
    x.working_ms, x.status,
    1 AS executions, x.attempts, x.llm_calls, x.tool_calls, x.input_tokens, x.output_tokens, x.total_tokens, x.cost_usd,
    x.calls_without_usage, x.unpriced_calls, x.replayed_tokens, x.retried_tokens, x.forked_tokens,
    x.at_ns AS occurred_ns
FROM executions(as_of := as_of) x
WHERE x.chain_visit IS NULL
UNION ALL
SELECT
    x.engagement_id,
    arg_max(x.turn_id, row(x.at_ns, x.step_id)),
    arg_min(x.turn_id, row(x.at_ns, x.step_id)),
    arg_max(x.trace_id, row(x.at_ns, x.step_id)),
    arg_max(x.step_id, row(x.at_ns, x.step_id)),
    x.path,
    arg_max(x.parent_step_id, row(x.at_ns, x.step_id)),
    arg_min(x.superstep, row(x.at_ns, x.step_id)),
    to_time(min(x.at_ns)),
    CASE WHEN count(x.over_ns) = count(*) THEN to_time(max(x.over_ns)) END,
    sum(x.working_ms),
    arg_max(x.status, row(x.at_ns, x.step_id)),
    count(*),
    sum(x.attempts),
    sum(x.llm_calls),
    sum(x.tool_calls),
    known_of(x.input_tokens, x.llm_calls),
    known_of(x.output_tokens, x.llm_calls),
    known_of(x.total_tokens, x.llm_calls),
    known_of(x.cost_usd::DECIMAL(38, 15), x.llm_calls)::DOUBLE,
    sum(x.calls_without_usage),
    sum(x.unpriced_calls),
    known_sum(x.replayed_tokens),
    known_sum(x.retried_tokens),
    known_sum(x.forked_tokens),
    min(x.at_ns)
FROM executions(as_of := as_of) x
-- Only the few turns of chains: a table of all would be built for nothing.
JOIN (SELECT turn_id, chain_id FROM turn_facts WHERE chain_id IS NOT NULL) t ON t.turn_id = x.turn_id
WHERE x.chain_visit IS NOT NULL
GROUP BY x.engagement_id, t.chain_id, x.path, x.chain_visit;

CREATE OR REPLACE VIEW visits AS FROM visits();

-- Constant conditions: whether everybody is meant, and whether steps must follow each other.
CREATE OR REPLACE MACRO is_whole(since, until, name, user_id, metadata) AS
    since IS NULL AND until IS NULL AND name IS NULL AND user_id IS NULL AND metadata IS NULL;
CREATE OR REPLACE MACRO is_chained(ordered, within) AS ordered OR within IS NOT NULL;

-- The steps somebody asks for, by the full path that each means.
CREATE OR REPLACE MACRO asked_steps(steps) AS TABLE
SELECT
    a.position,
    CASE
        WHEN a.position > 60 THEN error('a funnel has 60 steps at most')
        WHEN count(k.path) FILTER (k.path = a.step) > 0 OR count(k.path) = 0 THEN a.step
        WHEN count(k.path) = 1 THEN min(k.path)
        ELSE error(
            'the step ' || a.step || ' could be any of ' || string_agg(k.path, ', ' ORDER BY k.path)
            || ': give its whole path'
        )
    END AS step
FROM (SELECT unnest(steps::VARCHAR[]) AS step, generate_subscripts(steps::VARCHAR[], 1) AS position) a
LEFT JOIN (
    SELECT DISTINCT coalesce(r.path, r.name, '') AS path FROM records r WHERE r.kind = 'step' AND r.engagement_id IS NOT NULL
) k ON k.path = a.step OR ends_with(k.path, '/' || a.step)
GROUP BY a.position, a.step;

-- Which of the asked steps each engagement reached, and at which of these it stands: a bit a position.
CREATE OR REPLACE MACRO comers(
    steps, ordered, within, since, until, name, user_id, metadata, as_of, idle_after
) AS TABLE
WITH asked AS MATERIALIZED (FROM asked_steps(steps)),
-- When each engagement began which of them: nanoseconds and, in the last six bits, the position. As numbers, because lists
-- of them are sorted twice as fast as lists of pairs.
begun AS NOT MATERIALIZED (
    SELECT v.engagement_id, v.occurred_ns::HUGEINT * 64 + a.position AS start
    FROM visits(as_of := as_of) v
    JOIN asked a ON a.step = v.path
),
chained AS (
    SELECT
        b.engagement_id,
        list_max(list_transform(
            -- Within a time any visit of the first step may begin the best chain, otherwise the first one does.
            CASE
                WHEN within IS NULL THEN [min(b.start) FILTER (b.start & 63 = 1)]
                ELSE list(b.start) FILTER (b.start & 63 = 1)
            END,
            lambda first: list_reduce(
                list_sort(list(b.start)),
                lambda x, y: CASE
                    WHEN y & 63 = (x & 63) + 1
                        AND (y >> 6 > x >> 6 OR x = 0)
                        AND (x > 0 OR y = first)
                        AND (
                            within IS NULL
                            OR to_time((y >> 6)::BIGINT) <= to_time((first >> 6)::BIGINT) + within::INTERVAL
                        )
                        THEN y
                    ELSE x
                END,
                0::HUGEINT
            ) & 63
        )) AS far
    FROM begun b
    WHERE is_chained(ordered, within)
    GROUP BY b.engagement_id
),
arrived AS (
    SELECT b.engagement_id, bit_or(1::BIGINT << ((b.start & 63)::BIGINT - 1)) AS reached
    FROM begun b
    WHERE NOT is_chained(ordered, within)
    GROUP BY b.engagement_id
    UNION ALL
    SELECT c.engagement_id, (1::BIGINT << c.far::BIGINT) - 1 FROM chained c WHERE c.far > 0
),
placed AS (
    SELECT r.engagement_id, r.reached, e.status, CASE WHEN e.status <> 'completed' THEN e.last_step END AS place
    FROM arrived r
    JOIN chosen(since, until, name, user_id, metadata, as_of, idle_after) e ON e.engagement_id = r.engagement_id
),
asking AS (
    SELECT w.engagement_id, w.path AS place
    FROM waits(as_of := as_of) w
    WHERE w.is_open AND w.path IS NOT NULL
),
-- A place stands for itself, else for the innermost asked step around it.
meant AS (
    SELECT d.place, bit_or(1::BIGINT << (a.position - 1)) AS bits
    FROM (SELECT p.place FROM placed p UNION SELECT q.place FROM asking q) d
    JOIN asked a ON a.step = d.place OR starts_with(d.place, a.step || '/')
    GROUP BY d.place, len(a.step)
    QUALIFY len(a.step) = max(len(a.step)) OVER (PARTITION BY d.place)
)
SELECT
    p.engagement_id,
    p.status,
    p.reached,
    CASE p.status WHEN 'paused' THEN 'waiting' WHEN 'abandoned' THEN 'dropped' ELSE p.status END AS how,
    p.reached & (coalesce(m.bits, 0) | CASE WHEN p.status = 'paused' THEN coalesce(q.bits, 0) ELSE 0 END) AS stands
FROM placed p
LEFT JOIN meant m ON m.place = p.place
-- Of several questions each keeps somebody waiting.
LEFT JOIN (
    SELECT q.engagement_id, bit_or(m.bits) AS bits
    FROM asking q
    JOIN meant m ON m.place = q.place
    GROUP BY q.engagement_id
) q ON q.engagement_id = p.engagement_id;

-- One row for each step and each engagement that reached it: the row behind every number of a funnel.
CREATE OR REPLACE MACRO funnel_engagements(
    steps, ordered := false, within := NULL, since := NULL, until := NULL, name := NULL, user_id := NULL, metadata := NULL,
    as_of := NULL, idle_after := NULL
) AS TABLE
WITH asked AS MATERIALIZED (FROM asked_steps(steps)),
there AS (
    SELECT
        v.engagement_id,
        a.position,
        a.step,
        count(*) AS visits,
        min(v.started_at) AS first_at,
        sum(v.working_ms) AS working_ms,
        known_of(v.total_tokens, v.llm_calls)::BIGINT AS total_tokens,
        known_of(v.cost_usd::DECIMAL(38, 15), v.llm_calls)::DOUBLE AS cost_usd,
        arg_max({'trace_id': v.trace_id, 'turn_id': v.turn_id, 'step_id': v.step_id}, row(v.occurred_ns, v.step_id)) AS latest
    FROM visits(as_of := as_of) v
    JOIN asked a ON a.step = v.path
    GROUP BY v.engagement_id, a.position, a.step
)
SELECT
    t.position,
    t.step,
    t.engagement_id,
    CASE WHEN c.stands & (1::BIGINT << (t.position - 1)) <> 0 THEN c.how ELSE 'advanced' END AS outcome,
    c.status,
    t.visits,
    t.first_at,
    t.working_ms,
    t.total_tokens,
    t.cost_usd,
    t.latest.trace_id AS trace_id,
    t.latest.turn_id AS turn_id,
    t.latest.step_id AS step_id
FROM there t
JOIN comers(steps, ordered, within, since, until, name, user_id, metadata, as_of, idle_after) c
    ON c.engagement_id = t.engagement_id AND c.reached & (1::BIGINT << (t.position - 1)) <> 0
ORDER BY t.position, t.first_at, t.engagement_id;

-- The sums of funnel_engagements, without making its rows.
CREATE OR REPLACE MACRO funnel(
    steps, ordered := false, within := NULL, since := NULL, until := NULL, name := NULL, user_id := NULL, metadata := NULL,
    as_of := NULL, idle_after := NULL
) AS TABLE
WITH asked AS MATERIALIZED (FROM asked_steps(steps)),
comers AS (FROM comers(steps, ordered, within, since, until, name, user_id, metadata, as_of, idle_after)),
met AS (
    SELECT
        a.position,
        sum(m.comers)::BIGINT AS reached,
        sum(m.comers) FILTER (m.reached & (1::BIGINT << a.position) <> 0) AS also_next,
        sum(m.comers) FILTER (m.how = 'waiting' AND m.stands & (1::BIGINT << (a.position - 1)) <> 0) AS waiting,
        sum(m.comers) FILTER (m.how = 'active' AND m.stands & (1::BIGINT << (a.position - 1)) <> 0) AS active,
        sum(m.comers) FILTER (m.how = 'failed' AND m.stands & (1::BIGINT << (a.position - 1)) <> 0) AS failed,
        sum(m.comers) FILTER (m.how = 'interrupted' AND m.stands & (1::BIGINT << (a.position - 1)) <> 0) AS interrupted,
        sum(m.comers) FILTER (m.how = 'dropped' AND m.stands & (1::BIGINT << (a.position - 1)) <> 0) AS dropped,
        sum(m.comers) FILTER (m.stands & (1::BIGINT << (a.position - 1)) = 0) AS advanced
    FROM (SELECT c.reached, c.stands, c.how, count(*) AS comers FROM comers c GROUP BY ALL) m
    JOIN asked a ON m.reached & (1::BIGINT << (a.position - 1)) <> 0
    GROUP BY a.position
),
made AS (
    SELECT
        v.position,
        count(*) AS visits,
        avg(v.working_ms) AS avg_working_ms,
        quantile_cont(v.working_ms, [0.5, 0.95]) AS working_ms,
        known_of(v.input_tokens, v.llm_calls)::BIGINT AS input_tokens,
        known_of(v.output_tokens, v.llm_calls)::BIGINT AS output_tokens,
        known_of(v.total_tokens, v.llm_calls)::BIGINT AS total_tokens,
        known_of(v.cost_usd::DECIMAL(38, 15), v.llm_calls)::DOUBLE AS cost_usd,
        sum(v.calls_without_usage)::BIGINT AS calls_without_usage,
        sum(v.unpriced_calls)::BIGINT AS unpriced_calls
    FROM (
        SELECT a.position, v.*
        FROM visits(as_of := as_of) v
        JOIN asked a ON a.step = v.path
        WHERE is_whole(since, until, name, user_id, metadata) AND NOT is_chained(ordered, within)
        UNION ALL
        SELECT a.position, v.*
        FROM visits(as_of := as_of) v
        JOIN asked a ON a.step = v.path
        JOIN comers c ON c.engagement_id = v.engagement_id AND c.reached & (1::BIGINT << (a.position - 1)) <> 0
        WHERE NOT is_whole(since, until, name, user_id, metadata) OR is_chained(ordered, within)
    ) v
    GROUP BY v.position
),
waited AS (
    SELECT a.position, quantile_cont(w.waited_ms, [0.5, 0.95]) AS waiting_ms
    FROM waits(as_of := as_of) w
    JOIN asked a ON a.step = w.path
    JOIN comers c ON c.engagement_id = w.engagement_id AND c.reached & (1::BIGINT << (a.position - 1)) <> 0
    WHERE w.waited_ms IS NOT NULL
    GROUP BY a.position
)
SELECT
    a.position,
    a.step,
    coalesce(m.reached, 0) AS reached,
    coalesce(v.visits, 0) AS visits,
    coalesce(m.advanced, 0)::BIGINT AS advanced,
    coalesce(m.waiting, 0)::BIGINT AS waiting,
    coalesce(m.active, 0)::BIGINT AS active,
    coalesce(m.failed, 0)::BIGINT AS failed,
    coalesce(m.interrupted, 0)::BIGINT AS interrupted,
    coalesce(m.dropped, 0)::BIGINT AS dropped,
    CASE WHEN a.position < len(steps) AND m.reached > 0 THEN 1 - coalesce(m.dropped, 0) / m.reached END AS conversion_rate,
    CASE WHEN a.position < len(steps) AND m.reached > 0 THEN coalesce(m.also_next, 0) / m.reached END AS step_rate,
    v.avg_working_ms,
    v.working_ms[1] AS p50_working_ms,
    v.working_ms[2] AS p95_working_ms,
    w.waiting_ms[1] AS p50_waiting_ms,
    w.waiting_ms[2] AS p95_waiting_ms,
    CASE WHEN v.position IS NULL THEN 0 ELSE v.input_tokens END AS input_tokens,
    CASE WHEN v.position IS NULL THEN 0 ELSE v.output_tokens END AS output_tokens,
    CASE WHEN v.position IS NULL THEN 0 ELSE v.total_tokens END AS total_tokens,
    CASE WHEN v.position IS NULL THEN 0 ELSE v.cost_usd END AS cost_usd,
    coalesce(v.calls_without_usage, 0) AS calls_without_usage,
    coalesce(v.unpriced_calls, 0) AS unpriced_calls
FROM asked a
LEFT JOIN met m ON m.position = a.position
LEFT JOIN made v ON v.position = a.position
LEFT JOIN waited w ON w.position = a.position
ORDER BY a.position;

-- The steps of each engagement in order: by turn, superstep and path, so that branches side by side read alike each time.
-- Nested, those without steps inside them, in the order in which they began.
CREATE OR REPLACE MACRO steps_taken(nested, as_of) AS TABLE
SELECT
    v.engagement_id,
    list_transform(
        list_sort(list({'turn_ns': f.started_ns, 'place': coalesce(v.superstep, v.occurred_ns), 'path': v.path})), lambda s: s.path
    ) AS path
FROM visits(as_of := as_of) v
LEFT JOIN turn_facts f ON f.turn_id = v.first_turn_id
WHERE NOT nested AND v.parent_step_id IS NULL
GROUP BY v.engagement_id
UNION ALL
SELECT
    v.engagement_id,
    list_transform(list_sort(list({'at_ns': v.occurred_ns, 'path': v.path})), lambda s: s.path)
FROM visits(as_of := as_of) v
ANTI JOIN executions(as_of := as_of) i ON i.turn_id = v.turn_id AND i.parent_step_id = v.step_id
WHERE nested
GROUP BY v.engagement_id;

-- Repetitions one after the other read as one, and what is longer than wanted ends with an ellipsis.
CREATE OR REPLACE MACRO shortened(path, depth) AS
    CASE WHEN len(path) > depth THEN list_slice(path, 1, depth) || ['…'] ELSE path END;
CREATE OR REPLACE MACRO collapsed(path) AS
    list_filter(path, lambda step, place: place = 1 OR step IS DISTINCT FROM path[place - 1]);

-- One row an engagement, with the steps it took; all that are meant, or the newest so many.
CREATE OR REPLACE MACRO journeys(
    status := NULL, reached := NULL, newest := NULL, since := NULL, until := NULL, name := NULL, user_id := NULL,
    metadata := NULL, as_of := NULL, idle_after := NULL
) AS TABLE
WITH meant AS (
    SELECT e.*
    FROM chosen(since, until, name, user_id, metadata, as_of, idle_after) e
    WHERE (status IS NULL OR e.status = status)
        AND (
            reached IS NULL
            OR e.engagement_id IN (
                SELECT v.engagement_id FROM visits(as_of := as_of) v JOIN asked_steps([reached]) a ON a.step = v.path
            )
        )
    ORDER BY e.started_at DESC, e.engagement_id
    LIMIT coalesce(newest, 9223372036854775807)
)
SELECT
    e.engagement_id,
    e.name,
    e.status,
    e.abandon_reason,
    e.dropped_at,
    e.last_step,
    e.user_id,
    e.session_id,
    e.conversation_id,
    e.metadata,
    e.started_at,
    e.last_seen_at,
    e.turns,
    coalesce(p.path, []) AS path,
    e.working_ms,
    e.waiting_ms,
    e.llm_calls,
    e.tool_calls,
    e.total_tokens,
    e.cost_usd,
    t.trace_ids
FROM meant e
LEFT JOIN steps_taken(false, as_of) p ON p.engagement_id = e.engagement_id
LEFT JOIN (
    SELECT f.engagement_id, list(f.trace_id ORDER BY f.started_ns, f.turn_id) AS trace_ids
    FROM turn_facts f
    CROSS JOIN instant(as_of) n
    WHERE f.started_ns <= n.instant_ns
    GROUP BY f.engagement_id
) t ON t.engagement_id = e.engagement_id
ORDER BY e.started_at DESC, e.engagement_id;

-- The ways that engagements took, the most frequent first.
CREATE OR REPLACE MACRO paths(
    depth := 20, nested := false, since := NULL, until := NULL, name := NULL, user_id := NULL, metadata := NULL,
    as_of := NULL, idle_after := NULL
) AS TABLE
WITH taken AS (
    SELECT
        shortened(collapsed(coalesce(w.path, [])), depth) AS path,
        count(*) AS engagements,
        count(*) FILTER (e.status = 'completed') AS completed,
        count(*) FILTER (e.status = 'abandoned') AS abandoned,
        count(*) FILTER (e.status = 'failed') AS failed,
        quantile_cont(e.working_ms, 0.5) AS p50_working_ms,
        known_of(e.total_tokens, e.llm_calls)::BIGINT AS total_tokens,
        known_of(e.cost_usd::DECIMAL(38, 15), e.llm_calls)::DOUBLE AS cost_usd,
        max(e.engagement_id) AS example_engagement_id
    FROM chosen(since, until, name, user_id, metadata, as_of, idle_after) e
    LEFT JOIN steps_taken(nested, as_of) w ON w.engagement_id = e.engagement_id
    GROUP BY shortened(collapsed(coalesce(w.path, [])), depth)
)
SELECT
    t.path, t.engagements, t.engagements / sum(t.engagements) OVER () AS share, t.completed, t.abandoned, t.failed,
    t.p50_working_ms, t.total_tokens, t.cost_usd, t.example_engagement_id
FROM taken t
ORDER BY t.engagements DESC, t.path;

-- Where engagements ended that were not completed.
CREATE OR REPLACE MACRO drop_offs(
    since := NULL, until := NULL, name := NULL, user_id := NULL, metadata := NULL, as_of := NULL, idle_after := NULL
) AS TABLE
WITH mine AS (FROM chosen(since, until, name, user_id, metadata, as_of, idle_after)),
there AS (
    SELECT v.path, count(DISTINCT v.engagement_id) AS reached
    FROM visits(as_of := as_of) v
    SEMI JOIN mine m ON m.engagement_id = v.engagement_id
    WHERE v.path IN (SELECT m.dropped_at FROM mine m WHERE m.dropped_at IS NOT NULL)
    GROUP BY v.path
),
-- Who stopped before a step at a breakpoint never reached it.
inside AS (
    SELECT m.engagement_id
    FROM mine m
    SEMI JOIN visits(as_of := as_of) v ON v.engagement_id = m.engagement_id AND v.path = m.dropped_at
)
SELECT
    m.dropped_at AS step,
    m.status,
    m.abandon_reason AS reason,
    count(*) AS engagements,
    count(*) / (SELECT count(*) FROM mine) AS share,
    count(i.engagement_id) / any_value(t.reached) AS of_reached,
    quantile_cont((epoch_us(m.last_seen_at) - epoch_us(m.started_at)) / 1000, 0.5) AS p50_lived_ms,
    known_of(m.total_tokens, m.llm_calls)::BIGINT AS total_tokens,
    known_of(m.cost_usd::DECIMAL(38, 15), m.llm_calls)::DOUBLE AS cost_usd,
    max(m.engagement_id) AS example_engagement_id
FROM mine m
LEFT JOIN inside i ON i.engagement_id = m.engagement_id
LEFT JOIN there t ON t.path = m.dropped_at
WHERE m.status IN ('abandoned', 'failed', 'interrupted')
GROUP BY m.dropped_at, m.status, m.abandon_reason
ORDER BY count(*) DESC, m.dropped_at, m.status, m.abandon_reason;

-- What each step takes, costs and suffers.
CREATE OR REPLACE MACRO step_stats(
    since := NULL, until := NULL, name := NULL, user_id := NULL, metadata := NULL, as_of := NULL, idle_after := NULL
) AS TABLE
WITH mine AS (FROM chosen(since, until, name, user_id, metadata, as_of, idle_after)),
made AS (
    SELECT
        v.path,
        count(DISTINCT v.engagement_id) AS engagements,
        count(*) AS visits,
        sum(v.executions)::BIGINT AS executions,
        sum(v.attempts)::BIGINT AS attempts,
        count(*) FILTER (v.status = 'failed') AS failed,
        count(*) FILTER (v.status = 'cancelled') AS cancelled,
        count(*) FILTER (v.status = 'interrupted') AS interrupted,
        avg(v.working_ms) AS avg_working_ms,
        quantile_cont(v.working_ms, [0.5, 0.95, 0.99]) AS working_ms,
        sum(v.llm_calls)::BIGINT AS llm_calls,
        sum(v.tool_calls)::BIGINT AS tool_calls,
        known_of(v.input_tokens, v.llm_calls)::BIGINT AS input_tokens,
        known_of(v.output_tokens, v.llm_calls)::BIGINT AS output_tokens,
        known_of(v.total_tokens, v.llm_calls)::BIGINT AS total_tokens,
        known_of(v.cost_usd::DECIMAL(38, 15), v.llm_calls)::DOUBLE AS cost_usd,
        sum(v.calls_without_usage)::BIGINT AS calls_without_usage,
        sum(v.unpriced_calls)::BIGINT AS unpriced_calls,
        known_sum(v.replayed_tokens)::BIGINT AS replayed_tokens,
        known_sum(v.retried_tokens)::BIGINT AS retried_tokens,
        known_sum(v.forked_tokens)::BIGINT AS forked_tokens
    FROM visits(as_of := as_of) v
    SEMI JOIN mine m ON m.engagement_id = v.engagement_id
    GROUP BY v.path
),
asked AS (
    SELECT w.path, count(*) AS waited, quantile_cont(w.waited_ms, [0.5, 0.95]) AS waiting_ms
    FROM waits(as_of := as_of) w
    SEMI JOIN mine m ON m.engagement_id = w.engagement_id
    GROUP BY w.path
)
SELECT
    v.path AS step,
    v.engagements,
    v.visits,
    v.executions,
    v.attempts,
    v.failed,
    v.cancelled,
    v.interrupted,
    coalesce(w.waited, 0) AS waited,
    v.failed / v.visits AS failure_rate,
    v.avg_working_ms,
    v.working_ms[1] AS p50_working_ms,
    v.working_ms[2] AS p95_working_ms,
    v.working_ms[3] AS p99_working_ms,
    w.waiting_ms[1] AS p50_waiting_ms,
    w.waiting_ms[2] AS p95_waiting_ms,
    v.llm_calls,
    v.tool_calls,
    v.input_tokens,
    v.output_tokens,
    v.total_tokens,
    v.cost_usd,
    v.calls_without_usage,
    v.unpriced_calls,
    v.replayed_tokens,
    v.retried_tokens,
    v.forked_tokens
FROM made v
LEFT JOIN asked w ON w.path = v.path
ORDER BY v.path;

CREATE OR REPLACE MACRO period_text("by", moment) AS
    CASE "by"
        WHEN 'hour' THEN strftime(moment, '%Y-%m-%d %H:00')
        WHEN 'day' THEN strftime(moment, '%Y-%m-%d')
        WHEN 'week' THEN strftime(date_trunc('week', moment), '%Y-%m-%d')
        WHEN 'month' THEN strftime(moment, '%Y-%m')
    END;
CREATE OR REPLACE MACRO metadata_text(metadata, key) AS
    json_extract_string(metadata, '/' || replace(replace(key, '~', '~0'), '/', '~1'));
-- What an engagement is put under: a column of it, a period of its start, or else a key of its metadata.
CREATE OR REPLACE MACRO engagement_key("by", e) AS
    CASE
        WHEN "by" IN ('name', 'engagement') THEN e.name
        WHEN "by" = 'user_id' THEN e.user_id
        WHEN "by" = 'session_id' THEN e.session_id
        WHEN "by" = 'conversation_id' THEN e.conversation_id
        WHEN "by" = 'service' THEN e.service_name
        WHEN "by" = 'status' THEN e.status
        WHEN "by" IN ('hour', 'day', 'week', 'month') THEN period_text("by", e.started_at)
        ELSE metadata_text(e.metadata, "by")
    END;
-- What a call is put under, where nothing of its engagement is needed for that.
CREATE OR REPLACE MACRO is_of_call("by") AS
    "by" IS NULL
    OR "by" IN ('model', 'provider', 'operation', 'step', 'agent', 'caller', 'service', 'hour', 'day', 'week', 'month');
CREATE OR REPLACE MACRO call_key("by", c) AS
    CASE "by"
        WHEN 'model' THEN c.model
        WHEN 'provider' THEN c.provider
        WHEN 'operation' THEN c.operation
        WHEN 'step' THEN c.step_path
        WHEN 'agent' THEN c.agent_name
        WHEN 'caller' THEN c.caller
        WHEN 'service' THEN c.service_name
        ELSE period_text("by", to_time(c.at_ns))
    END;

-- The model calls that count, each under its key.
CREATE OR REPLACE MACRO calls_by("by", split, since, until, name, user_id, metadata, as_of, idle_after) AS TABLE
WITH counted AS NOT MATERIALIZED (
    SELECT
        r.* REPLACE (coalesce(r.model, r.request_model) AS model, coalesce(r.cost_usd, r.priced_usd) AS cost_usd),
        -- Only of steps inside others is the name no path.
        ("by" = 'step' OR split = 'step') AND coalesce(list_contains(i.names, r.step_name), false) AS is_inner
    FROM records r
    CROSS JOIN instant(as_of) n
    CROSS JOIN (
        SELECT list(DISTINCT p.name) AS names
        FROM records p
        WHERE ("by" = 'step' OR split = 'step') AND p.kind = 'step' AND p.path <> p.name
    ) i
    WHERE r.kind IN ('llm', 'embeddings')
        AND r.counted
        AND r.at_ns <= n.instant_ns
        AND (since IS NULL OR to_time(r.at_ns) >= since::TIMESTAMP)
        AND (until IS NULL OR to_time(r.at_ns) < until::TIMESTAMP)
),
calls AS NOT MATERIALIZED (
    SELECT c.*, c.step_name AS step_path FROM counted c WHERE NOT coalesce(c.is_inner, false)
    UNION ALL
    SELECT c.*, coalesce(p.path, c.step_name)
    FROM counted c
    LEFT JOIN records p ON p.kind = 'step' AND p.turn_id = c.turn_id AND p.span_id = c.step_id
    WHERE c.is_inner
)
SELECT call_key("by", c) AS key, call_key(split, c) AS split, c.*
FROM calls c
WHERE is_of_call("by") AND is_of_call(split) AND name IS NULL AND user_id IS NULL AND metadata IS NULL
UNION ALL
SELECT
    CASE WHEN is_of_call("by") THEN call_key("by", c) ELSE engagement_key("by", e) END,
    CASE WHEN is_of_call(split) THEN call_key(split, c) ELSE engagement_key(split, e) END,
    c.*
FROM calls c
LEFT JOIN chosen(NULL, NULL, name, user_id, metadata, as_of, idle_after) e ON e.engagement_id = c.engagement_id
WHERE NOT (is_of_call("by") AND is_of_call(split) AND name IS NULL AND user_id IS NULL AND metadata IS NULL)
    -- Calls outside any engagement have no name, no user and no metadata.
    AND (e.engagement_id IS NOT NULL OR (name IS NULL AND user_id IS NULL AND metadata IS NULL));

-- What was spent, by anything.
CREATE OR REPLACE MACRO usage_by(
    "by", split := NULL, since := NULL, until := NULL, name := NULL, user_id := NULL, metadata := NULL,
    as_of := NULL, idle_after := NULL
) AS TABLE
SELECT
    c.key,
    c.split,
    count(*) AS calls,
    sum(c.input_tokens)::BIGINT AS input_tokens,
    sum(c.output_tokens)::BIGINT AS output_tokens,
    sum(c.cache_read_tokens)::BIGINT AS cache_read_tokens,
    sum(c.cache_write_tokens)::BIGINT AS cache_write_tokens,
    sum(c.reasoning_tokens)::BIGINT AS reasoning_tokens,
    sum(c.total_tokens)::BIGINT AS total_tokens,
    sum(c.cost_usd::DECIMAL(38, 15))::DOUBLE AS cost_usd,
    count(*) FILTER (
        coalesce(
            c.input_tokens, c.output_tokens, c.total_tokens, c.cache_read_tokens, c.cache_write_tokens, c.reasoning_tokens
        ) IS NULL
    ) AS calls_without_usage,
    count(*) FILTER (c.cost_usd IS NULL) AS unpriced_calls,
    repeated_tokens(c.repeats = 'replay', c.total_tokens) AS replayed_tokens,
    repeated_tokens(c.repeats = 'retry', c.total_tokens) AS retried_tokens,
    repeated_tokens(c.repeats = 'fork', c.total_tokens) AS forked_tokens,
    count(DISTINCT c.engagement_id) AS engagements
FROM calls_by("by", split, since, until, name, user_id, metadata, as_of, idle_after) c
GROUP BY c.key, c.split
ORDER BY sum(c.total_tokens) DESC NULLS LAST, c.key, c.split;

-- Engagements under anything, with what became of them.
CREATE OR REPLACE MACRO engagements_by(
    key, since := NULL, until := NULL, name := NULL, user_id := NULL, metadata := NULL, as_of := NULL, idle_after := NULL
) AS TABLE
SELECT
    engagement_key(key, e) AS key,
    count(*) AS engagements,
    count(*) FILTER (e.status = 'active') AS active,
    count(*) FILTER (e.status = 'paused') AS paused,
    count(*) FILTER (e.status = 'completed') AS completed,
    count(*) FILTER (e.status = 'abandoned') AS abandoned,
    count(*) FILTER (e.status = 'failed') AS failed,
    count(*) FILTER (e.status = 'interrupted') AS interrupted,
    sum(e.turns)::BIGINT AS turns,
    sum(e.steps)::BIGINT AS steps,
    sum(e.llm_calls)::BIGINT AS llm_calls,
    known_of(e.total_tokens, e.llm_calls)::BIGINT AS total_tokens,
    known_of(e.cost_usd::DECIMAL(38, 15), e.llm_calls)::DOUBLE AS cost_usd,
    sum(e.working_ms) AS working_ms,
    sum(e.waiting_ms) AS waiting_ms,
    min(e.started_at) AS first_at,
    max(e.last_seen_at) AS last_at
FROM chosen(since, until, name, user_id, metadata, as_of, idle_after) e
GROUP BY engagement_key(key, e)
ORDER BY count(*) DESC, engagement_key(key, e);

CREATE OR REPLACE MACRO known_period("by") AS
    CASE
        WHEN "by" IN ('hour', 'day', 'week', 'month') THEN "by"
        ELSE error('by must be hour, day, week or month, and not ' || coalesce("by", 'null'))
    END;

-- Every engagement of somebody known, with the period in which that person came first.
CREATE OR REPLACE MACRO returning_users("by", since, until, name, user_id, metadata, as_of, idle_after) AS TABLE
SELECT
    date_trunc(known_period("by"), min(e.started_at) OVER (PARTITION BY e.user_id))::DATE AS cohort,
    date_diff(known_period("by"), min(e.started_at) OVER (PARTITION BY e.user_id), e.started_at) AS period,
    e.*
FROM chosen(since, until, name, user_id, metadata, as_of, idle_after) e
WHERE e.user_id IS NOT NULL AND e.started_at IS NOT NULL;

-- What became of those who came first in the same period.
CREATE OR REPLACE MACRO cohorts(
    "by" := 'week', since := NULL, until := NULL, name := NULL, user_id := NULL, metadata := NULL,
    as_of := NULL, idle_after := NULL
) AS TABLE
SELECT
    u.cohort,
    count(DISTINCT u.user_id) AS users,
    count(*) AS engagements,
    count(*) FILTER (u.status = 'completed') AS completed,
    count(*) FILTER (u.status = 'abandoned') AS abandoned,
    count(*) FILTER (u.status = 'failed') AS failed,
    count(*) FILTER (u.status = 'completed') / count(*) AS completion_rate,
    count(*) / count(DISTINCT u.user_id) AS engagements_per_user,
    known_of(u.total_tokens, u.llm_calls)::BIGINT AS total_tokens,
    known_of(u.cost_usd::DECIMAL(38, 15), u.llm_calls)::DOUBLE AS cost_usd
FROM returning_users("by", since, until, name, user_id, metadata, as_of, idle_after) u
GROUP BY u.cohort
ORDER BY u.cohort;

-- Who of them came again, so many periods later.
CREATE OR REPLACE MACRO retention(
    "by" := 'week', since := NULL, until := NULL, name := NULL, user_id := NULL, metadata := NULL,
    as_of := NULL, idle_after := NULL
) AS TABLE
WITH seen AS (
    SELECT DISTINCT u.cohort, u.period, u.user_id
    FROM returning_users("by", since, until, name, user_id, metadata, as_of, idle_after) u
)
SELECT
    s.cohort,
    s.period,
    max(c.users) AS users,
    count(*) AS returned,
    count(*) / max(c.users) AS rate
FROM seen s
JOIN (SELECT o.cohort, count(DISTINCT o.user_id) AS users FROM seen o GROUP BY o.cohort) c ON c.cohort = s.cohort
GROUP BY s.cohort, s.period
ORDER BY s.cohort, s.period;

-- Whether an engagement is one that somebody describes: by columns, the time it started, and else by its metadata.
CREATE OR REPLACE MACRO described(e, wanted) AS
    same_text(e.name, wanted, 'name')
    AND same_text(e.user_id, wanted, 'user_id')
    AND same_text(e.session_id, wanted, 'session_id')
    AND same_text(e.conversation_id, wanted, 'conversation_id')
    AND same_text(e.service_name, wanted, 'service_name')
    AND (json_type(wanted, '$.since') IS NULL OR e.started_at >= json_extract_string(wanted, '$.since')::TIMESTAMP)
    AND (json_type(wanted, '$.until') IS NULL OR e.started_at < json_extract_string(wanted, '$.until')::TIMESTAMP)
    AND has_metadata(
        e.metadata,
        wanted,
        list_filter(
            json_keys(wanted),
            lambda k: k NOT IN (
                'name', 'user_id', 'session_id', 'conversation_id', 'service_name', 'graph_version', 'since', 'until'
            )
        )
    );

-- Two groups of engagements beside each other, a row a number.
CREATE OR REPLACE MACRO compare(
    a, b, since := NULL, until := NULL, name := NULL, user_id := NULL, metadata := NULL, as_of := NULL, idle_after := NULL
) AS TABLE
WITH sides AS (
    SELECT
        s.side,
        count(*) AS engagements,
        count(*) FILTER (e.status = 'completed') AS completed,
        count(*) FILTER (e.status = 'abandoned') AS abandoned,
        count(*) FILTER (e.status = 'failed') AS failed,
        count(*) FILTER (e.status = 'interrupted') AS interrupted,
        avg(e.turns) AS turns,
        avg(e.steps) AS steps,
        quantile_cont(e.working_ms, [0.5, 0.95]) AS working_ms,
        quantile_cont(e.waiting_ms, 0.5) FILTER (e.waiting_ms > 0) AS waiting_ms,
        avg(e.llm_calls) AS llm_calls,
        avg(e.total_tokens) AS tokens,
        avg(e.cost_usd) AS cost_usd
    FROM (SELECT 'a' AS side, a::JSON AS wanted UNION ALL SELECT 'b', b::JSON) s
    CROSS JOIN chosen(since, until, name, user_id, metadata, as_of, idle_after) e
    WHERE described(e, s.wanted)
        AND (
            json_type(s.wanted, '$.graph_version') IS NULL
            OR (e.engagement_id, json_extract_string(s.wanted, '$.graph_version'))
                IN (SELECT (f.engagement_id, f.graph_version) FROM turn_facts f)
        )
    GROUP BY s.side
),
numbers AS (
    SELECT
        s.side,
        unnest([
            {'place': 1, 'metric': 'engagements', 'value': s.engagements::DOUBLE},
            {'place': 2, 'metric': 'completed', 'value': s.completed},
            {'place': 3, 'metric': 'abandoned', 'value': s.abandoned},
            {'place': 4, 'metric': 'failed', 'value': s.failed},
            {'place': 5, 'metric': 'interrupted', 'value': s.interrupted},
            {'place': 6, 'metric': 'completion_rate', 'value': s.completed / nullif(s.engagements, 0)},
            {'place': 7, 'metric': 'abandonment_rate', 'value': s.abandoned / nullif(s.engagements, 0)},
            {'place': 8, 'metric': 'failure_rate', 'value': s.failed / nullif(s.engagements, 0)},
            {'place': 9, 'metric': 'turns_per_engagement', 'value': s.turns},
            {'place': 10, 'metric': 'steps_per_engagement', 'value': s.steps},
            {'place': 11, 'metric': 'p50_working_ms', 'value': s.working_ms[1]},
            {'place': 12, 'metric': 'p95_working_ms', 'value': s.working_ms[2]},
            {'place': 13, 'metric': 'p50_waiting_ms', 'value': s.waiting_ms},
            {'place': 14, 'metric': 'llm_calls_per_engagement', 'value': s.llm_calls},
            {'place': 15, 'metric': 'tokens_per_engagement', 'value': s.tokens},
            {'place': 16, 'metric': 'cost_usd_per_engagement', 'value': s.cost_usd}
        ], recursive := true)
    FROM (
        FROM sides
        UNION ALL
        -- A side without engagements has none of them, and no rates.
        SELECT m.side, 0, 0, 0, 0, 0, NULL, NULL, NULL, NULL, NULL, NULL, NULL
        FROM (SELECT unnest(['a', 'b']) AS side) m
        WHERE m.side NOT IN (SELECT s.side FROM sides s)
    ) s
)
SELECT
    n.metric,
    max(n.value) FILTER (n.side = 'a') AS a,
    max(n.value) FILTER (n.side = 'b') AS b,
    max(n.value) FILTER (n.side = 'b') - max(n.value) FILTER (n.side = 'a') AS difference,
    max(n.value) FILTER (n.side = 'b') / nullif(max(n.value) FILTER (n.side = 'a'), 0) AS ratio
FROM numbers n
GROUP BY n.metric, n.place
ORDER BY n.place;
