-- From `turn_rows` (all rows of the touched turns, merged) and `verdicts` to `fresh`: the rows as `records` holds them.
CREATE OR REPLACE TEMP TABLE fresh AS
WITH RECURSIVE
steps AS (
    SELECT DISTINCT ON (grp, span_id) grp, span_id AS step_id, parent_step_id, name
    FROM turn_rows
    WHERE kind = 'step'
    ORDER BY grp, span_id, trace_id
),
judged AS (
    SELECT
        t.*,
        CASE WHEN t.kind IN ('llm', 'embeddings', 'tool') THEN coalesce(v.counted, true) END AS counted,
        v.because AS not_counted_because
    FROM turn_rows t
    LEFT JOIN verdicts v ON v.grp = t.grp AND v.span_id = t.span_id
),
-- Every step with every step around it, itself included. UNION forgets repetitions, so a circle of parents ends.
up AS (
    SELECT grp, step_id, step_id AS around_id FROM steps
    UNION
    SELECT u.grp, u.step_id, s.parent_step_id
    FROM up u
    JOIN steps s ON s.grp = u.grp AND s.step_id = u.around_id
    WHERE s.parent_step_id IS NOT NULL
),
spent AS (
    SELECT
        u.grp,
        u.around_id AS step_id,
        count(*) FILTER (c.kind <> 'tool') AS llm_calls,
        count(*) FILTER (c.kind = 'tool') AS tool_calls,
        count(*) FILTER (
            c.kind <> 'tool' AND coalesce(
                c.input_tokens, c.output_tokens, c.total_tokens, c.cache_read_tokens, c.cache_write_tokens,
                c.reasoning_tokens
            ) IS NULL
        ) AS calls_without_usage,
        count(*) FILTER (c.kind <> 'tool' AND c.cost_usd IS NULL) AS unpriced_calls,
        sum(c.input_tokens) FILTER (c.kind <> 'tool') AS input_tokens,
        sum(c.output_tokens) FILTER (c.kind <> 'tool') AS output_tokens,
        sum(c.cache_read_tokens) FILTER (c.kind <> 'tool') AS cache_read_tokens,
        sum(c.cache_write_tokens) FILTER (c.kind <> 'tool') AS cache_write_tokens,
        sum(c.reasoning_tokens) FILTER (c.kind <> 'tool') AS reasoning_tokens,
        sum(c.total_tokens) FILTER (c.kind <> 'tool') AS total_tokens,
        -- Decimal: a sum of floats would depend on the order of its rows.
        sum(c.cost_usd::DECIMAL(38, 15)) FILTER (c.kind <> 'tool') AS cost_usd
    FROM up u
    JOIN judged c ON c.grp = u.grp AND c.step_id = u.step_id
    WHERE c.counted
    GROUP BY u.grp, u.around_id
)
SELECT
    j.* EXCLUDE (grp, counted, not_counted_because),
    coalesce(j.started_ns, j.ended_ns, 0) AS at_ns,
    j.counted,
    j.not_counted_because,
    s.name AS step_name,
    if(j.kind = 'step', coalesce(p.llm_calls, 0), NULL) AS llm_calls,
    if(j.kind = 'step', coalesce(p.tool_calls, 0), NULL) AS tool_calls,
    if(j.kind = 'step', coalesce(p.calls_without_usage, 0), NULL) AS calls_without_usage,
    if(j.kind = 'step', coalesce(p.unpriced_calls, 0), NULL) AS unpriced_calls,
    CASE WHEN j.kind = 'step' THEN if(coalesce(p.llm_calls, 0) = 0, 0, p.input_tokens) END::BIGINT
        AS used_input_tokens,
    CASE WHEN j.kind = 'step' THEN if(coalesce(p.llm_calls, 0) = 0, 0, p.output_tokens) END::BIGINT
        AS used_output_tokens,
    CASE WHEN j.kind = 'step' THEN if(coalesce(p.llm_calls, 0) = 0, 0, p.cache_read_tokens) END::BIGINT
        AS used_cache_read_tokens,
    CASE WHEN j.kind = 'step' THEN if(coalesce(p.llm_calls, 0) = 0, 0, p.cache_write_tokens) END::BIGINT
        AS used_cache_write_tokens,
    CASE WHEN j.kind = 'step' THEN if(coalesce(p.llm_calls, 0) = 0, 0, p.reasoning_tokens) END::BIGINT
        AS used_reasoning_tokens,
    CASE WHEN j.kind = 'step' THEN if(coalesce(p.llm_calls, 0) = 0, 0, p.total_tokens) END::BIGINT
        AS used_total_tokens,
    CASE WHEN j.kind = 'step' THEN if(coalesce(p.llm_calls, 0) = 0, 0, p.cost_usd) END::DOUBLE AS used_cost_usd
FROM judged j
LEFT JOIN steps s ON s.grp = j.grp AND s.step_id = j.step_id
LEFT JOIN spent p ON j.kind = 'step' AND p.grp = j.grp AND p.step_id = j.span_id;
