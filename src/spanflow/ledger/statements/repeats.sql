-- `rejoined`: rows of `joined_turns` whose visits, repetitions and sums of these are not what they should be;
-- `joined_sums`: what they add up to in each turn.
CREATE OR REPLACE TEMP TABLE chain_rows AS
SELECT
    r.rowid AS row_id, j.first_id, j.place, j.chain_id, j.is_fork, r.turn_id, r.trace_id, r.span_id, r.step_id,
    r.parent_step_id, r.kind, if(r.phase = 'end', r.status, 'running') AS ended_as, r.at_ns,
    if(r.phase = 'end', coalesce(r.ended_ns, r.at_ns), NULL) AS over_ns, coalesce(r.path, r.name, '') AS path, r.visit,
    r.execution_id, r.attempt, r.attempts, r.counted, r.total_tokens,
    coalesce(r.cost_usd, r.priced_usd) AS cost_usd, @rejoined_columns
FROM records r
JOIN joined_turns j ON j.turn_id = r.turn_id
WHERE r.at_ns BETWEEN @low AND @high;

CREATE OR REPLACE TEMP TABLE chain_steps AS
SELECT
    row_id, first_id, chain_id, turn_id, span_id, parent_step_id, path, execution_id, attempts, ended_as, at_ns, over_ns,
    row_number() OVER (PARTITION BY first_id ORDER BY place, visit NULLS LAST, at_ns, span_id, trace_id) AS nth,
    -- Two traces with one span id are possible in principle.
    row_number() OVER (PARTITION BY turn_id, span_id ORDER BY trace_id) = 1 AS is_named
FROM chain_rows
WHERE kind = 'step';

-- A further row of one execution is the same visit. Where nobody tells executions, visits stay what each turn counted.
CREATE OR REPLACE TEMP TABLE visits AS
SELECT first_id, path, execution_id, row_number() OVER (PARTITION BY first_id, path ORDER BY min(nth)) AS visit
FROM chain_steps
WHERE chain_id IS NOT NULL AND execution_id IS NOT NULL
GROUP BY first_id, path, execution_id;

-- The row of the same execution before: the latest that had ended by then or never did. Where clocks disagree, the first.
CREATE OR REPLACE TEMP TABLE taken_up AS
SELECT
    row_id,
    coalesce(max_by(told, nth) FILTER (was_over), min_by(told, nth)) AS before,
    CASE
        WHEN before['ended_as'] IN ('failed', 'cancelled', 'running') THEN 'retry'
        -- It was through, but its result was lost with the process.
        WHEN before['ended_as'] = 'completed' AND bool_or(was_over) THEN 'retry'
        ELSE 'replay'
    END AS repeats
FROM (
    SELECT
        b.row_id,
        a.nth,
        a.over_ns IS NULL OR a.over_ns <= b.at_ns AS was_over,
        {'row_id': a.row_id, 'ended_as': a.ended_as} AS told
    FROM chain_steps b
    JOIN chain_steps a ON a.first_id = b.first_id AND a.execution_id = b.execution_id AND a.nth < b.nth
)
GROUP BY row_id;

CREATE OR REPLACE TEMP TABLE repeated AS
WITH calls AS (
    SELECT
        c.row_id,
        c.is_fork,
        c.attempt,
        c.counted,
        s.row_id AS step_row_id,
        coalesce(c.attempt, 1) = coalesce(s.attempts, 1) AS is_last_attempt,
        row_number() OVER (
            PARTITION BY s.row_id, c.counted ORDER BY c.at_ns, c.span_id, c.trace_id
        ) AS nth
    FROM chain_rows c
    LEFT JOIN chain_steps s ON s.turn_id = c.turn_id AND s.span_id = c.step_id AND s.is_named
    WHERE c.kind IN ('llm', 'embeddings', 'tool')
),
-- The attempts before the one that paused are not repeated.
made AS (
    SELECT step_row_id, count(*) FILTER (counted AND is_last_attempt) AS calls
    FROM calls
    GROUP BY step_row_id
)
SELECT
    c.row_id,
    CASE
        WHEN c.is_fork THEN 'fork'
        WHEN c.attempt > 1 OR t.repeats = 'retry' THEN 'retry'
        WHEN t.before['ended_as'] = 'waiting' AND c.counted AND c.nth <= m.calls THEN 'replay'
    END AS repeats
FROM calls c
LEFT JOIN taken_up t ON t.row_id = c.step_row_id
LEFT JOIN made m ON m.step_row_id = t.before['row_id'];

-- What was spent on it: in each step and the steps around it, and in each turn.
CREATE OR REPLACE TEMP TABLE repeated_spending AS
SELECT
    c.turn_id,
    c.step_id,
    r.repeats,
    c.total_tokens,
    -- Decimal: a sum of floats would depend on the order of its rows.
    c.cost_usd::DECIMAL(38, 15) AS cost_usd
FROM repeated r
JOIN chain_rows c ON c.row_id = r.row_id
WHERE r.repeats IS NOT NULL AND c.counted AND c.kind IN ('llm', 'embeddings');

CREATE OR REPLACE TEMP TABLE repeated_around AS
WITH RECURSIVE
up AS (
    SELECT turn_id, span_id AS step_id, parent_step_id AS around_id
    FROM chain_steps
    SEMI JOIN (SELECT DISTINCT turn_id FROM repeated_spending) USING (turn_id)
    WHERE is_named AND parent_step_id IS NOT NULL
    UNION
    SELECT u.turn_id, u.step_id, s.parent_step_id
    FROM up u
    JOIN chain_steps s ON s.turn_id = u.turn_id AND s.span_id = u.around_id
    WHERE s.is_named AND s.parent_step_id IS NOT NULL
)
FROM repeated_spending
UNION ALL
SELECT s.* REPLACE (u.around_id AS step_id)
FROM repeated_spending s
JOIN up u ON u.turn_id = s.turn_id AND u.step_id = s.step_id
WHERE u.around_id <> s.step_id;

-- No such call spends nothing; where there are some and none tells, nobody knows.
CREATE OR REPLACE TEMP MACRO spent_on(repeats, wanted, amount) AS
    if(count(*) FILTER (repeats = wanted) = 0, 0, sum(amount) FILTER (repeats = wanted));

CREATE OR REPLACE TEMP TABLE joined_sums AS
SELECT
    turn_id,
    spent_on(repeats, 'replay', total_tokens)::BIGINT AS replayed_tokens,
    spent_on(repeats, 'retry', total_tokens)::BIGINT AS retried_tokens,
    spent_on(repeats, 'fork', total_tokens)::BIGINT AS forked_tokens,
    spent_on(repeats, 'replay', cost_usd)::DOUBLE AS replayed_cost_usd,
    spent_on(repeats, 'retry', cost_usd)::DOUBLE AS retried_cost_usd,
    spent_on(repeats, 'fork', cost_usd)::DOUBLE AS forked_cost_usd
FROM joined_turns
LEFT JOIN repeated_spending USING (turn_id)
GROUP BY turn_id;

CREATE OR REPLACE TEMP TABLE joined_steps AS
SELECT
    turn_id,
    step_id,
    spent_on(repeats, 'replay', total_tokens)::BIGINT AS replayed_tokens,
    spent_on(repeats, 'retry', total_tokens)::BIGINT AS retried_tokens,
    spent_on(repeats, 'fork', total_tokens)::BIGINT AS forked_tokens,
    spent_on(repeats, 'replay', cost_usd)::DOUBLE AS replayed_cost_usd,
    spent_on(repeats, 'retry', cost_usd)::DOUBLE AS retried_cost_usd,
    spent_on(repeats, 'fork', cost_usd)::DOUBLE AS forked_cost_usd
FROM repeated_around
GROUP BY turn_id, step_id;

CREATE OR REPLACE TEMP TABLE rejoined AS
SELECT r.row_id, @rejoined_new
FROM chain_rows r
JOIN (
    SELECT
        c.row_id,
        coalesce(t.repeats, p.repeats) AS repeats,
        v.visit AS chain_visit,
        if(c.kind = 'step' AND s.turn_id IS NOT NULL, s.replayed_tokens, 0) AS used_replayed_tokens,
        if(c.kind = 'step' AND s.turn_id IS NOT NULL, s.retried_tokens, 0) AS used_retried_tokens,
        if(c.kind = 'step' AND s.turn_id IS NOT NULL, s.forked_tokens, 0) AS used_forked_tokens,
        if(c.kind = 'step' AND s.turn_id IS NOT NULL, s.replayed_cost_usd, 0) AS used_replayed_cost_usd,
        if(c.kind = 'step' AND s.turn_id IS NOT NULL, s.retried_cost_usd, 0) AS used_retried_cost_usd,
        if(c.kind = 'step' AND s.turn_id IS NOT NULL, s.forked_cost_usd, 0) AS used_forked_cost_usd
    FROM chain_rows c
    LEFT JOIN taken_up t ON t.row_id = c.row_id
    LEFT JOIN repeated p ON p.row_id = c.row_id
    LEFT JOIN chain_steps e ON e.row_id = c.row_id
    LEFT JOIN visits v ON v.first_id = e.first_id AND v.path = e.path AND v.execution_id = e.execution_id
    LEFT JOIN joined_steps s ON s.turn_id = c.turn_id AND s.step_id = c.span_id
) n ON n.row_id = r.row_id
WHERE @rejoined_differ;
