-- `step_names`, `priced` and `spent`: what a row's columns are computed from beside its verdict; `computed`: these columns, for every
-- row of the touched turns.
CREATE OR REPLACE TEMP TABLE step_names AS
SELECT
    grp,
    span_id AS step_id,
    -- Two traces with one span id are possible in principle.
    min_by({'parent_step_id': parent_step_id, 'name': name}, trace_id) AS first,
    first['parent_step_id'] AS parent_step_id,
    first['name'] AS name
FROM turn_rows
WHERE kind = 'step'
GROUP BY grp, span_id;

CREATE OR REPLACE TEMP TABLE priced AS
SELECT
    grp,
    trace_id,
    span_id,
    usd_at(rates, input_tokens, produced_tokens, cache_read_tokens, cache_write_tokens, reasoning_tokens) AS usd
FROM (
    SELECT
        *,
        if(kind = 'embeddings', coalesce(output_tokens, 0), output_tokens) AS produced_tokens,
        rates_for(
            coalesce(model, request_model), provider, to_time(coalesce(started_ns, ended_ns, 0))::DATE, input_tokens
        ) AS rates
    FROM turn_rows
    WHERE kind IN ('llm', 'embeddings') AND cost_usd IS NULL AND EXISTS (FROM prices)
);

CREATE OR REPLACE TEMP TABLE spent AS
WITH RECURSIVE
calls AS (
    SELECT
        t.grp,
        t.step_id,
        t.kind = 'tool' AS is_tool,
        t.input_tokens,
        t.output_tokens,
        t.cache_read_tokens,
        t.cache_write_tokens,
        t.reasoning_tokens,
        t.total_tokens,
        -- Decimal: a sum of floats would depend on the order of its rows.
        coalesce(t.cost_usd, m.usd)::DECIMAL(38, 15) AS cost_usd,
        coalesce(
            t.input_tokens, t.output_tokens, t.total_tokens, t.cache_read_tokens, t.cache_write_tokens,
            t.reasoning_tokens
        ) IS NULL AS is_unknown
    FROM turn_rows t
    LEFT JOIN verdicts v ON v.grp = t.grp AND v.span_id = t.span_id
    LEFT JOIN priced m ON m.grp = t.grp AND m.trace_id = t.trace_id AND m.span_id = t.span_id
    WHERE t.kind IN ('llm', 'embeddings', 'tool') AND coalesce(v.counted, true)
),
-- Every nested step with every step around it. UNION forgets repetitions, so a circle of parents ends.
up AS (
    SELECT grp, step_id, parent_step_id AS around_id FROM step_names WHERE parent_step_id IS NOT NULL
    UNION
    SELECT u.grp, u.step_id, s.parent_step_id
    FROM up u
    JOIN step_names s ON s.grp = u.grp AND s.step_id = u.around_id
    WHERE s.parent_step_id IS NOT NULL
)
SELECT
    grp,
    step_id,
    count(*) FILTER (NOT is_tool) AS llm_calls,
    count(*) FILTER (is_tool) AS tool_calls,
    count(*) FILTER (NOT is_tool AND is_unknown) AS calls_without_usage,
    count(*) FILTER (NOT is_tool AND cost_usd IS NULL) AS unpriced_calls,
    sum(input_tokens) FILTER (NOT is_tool) AS input_tokens,
    sum(output_tokens) FILTER (NOT is_tool) AS output_tokens,
    sum(cache_read_tokens) FILTER (NOT is_tool) AS cache_read_tokens,
    sum(cache_write_tokens) FILTER (NOT is_tool) AS cache_write_tokens,
    sum(reasoning_tokens) FILTER (NOT is_tool) AS reasoning_tokens,
    sum(total_tokens) FILTER (NOT is_tool) AS total_tokens,
    sum(cost_usd) FILTER (NOT is_tool) AS cost_usd
FROM (
    FROM calls
    UNION ALL
    SELECT c.* REPLACE (u.around_id AS step_id)
    FROM calls c
    JOIN up u ON u.grp = c.grp AND u.step_id = c.step_id
    WHERE u.around_id <> c.step_id
)
GROUP BY grp, step_id;

CREATE OR REPLACE TEMP VIEW computed AS
SELECT
    j.*,
    if(j.kind IN ('llm', 'embeddings', 'tool'), coalesce(v.counted, true), NULL) AS counted,
    v.because AS not_counted_because,
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
    CASE WHEN j.kind = 'step' THEN if(coalesce(p.llm_calls, 0) = 0, 0, p.cost_usd) END::DOUBLE AS used_cost_usd,
    m.usd AS priced_usd
FROM turn_rows j
LEFT JOIN verdicts v ON v.grp = j.grp AND v.span_id = j.span_id
LEFT JOIN step_names s ON s.grp = j.grp AND s.step_id = j.step_id
LEFT JOIN spent p ON p.grp = j.grp AND p.step_id = j.span_id
LEFT JOIN priced m ON m.grp = j.grp AND m.trace_id = j.trace_id AND m.span_id = j.span_id;
