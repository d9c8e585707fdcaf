-- Calls of those turns where not every call obviously counts: several instrumentations told, or calls under calls.
SELECT
    c.grp,
    c.kind = 'tool' AS is_tool,
    c.span_id,
    -- Tools may call tools, and both happened.
    if(c.kind = 'tool', NULL, c.parent_span_id),
    coalesce(c.scope, ''),
    c.step_id,
    if(c.kind = 'tool', c.name, coalesce(c.model, c.request_model)),
    if(c.kind = 'tool', c.call_id, c.response_id),
    coalesce(c.started_ns, c.ended_ns, 0),
    coalesce(c.ended_ns, c.started_ns, 0),
    c.cost_usd,
    c.usage_flags,
    c.input_tokens,
    c.output_tokens,
    c.cache_read_tokens,
    c.cache_write_tokens,
    c.reasoning_tokens,
    c.total_tokens
FROM turn_rows c
SEMI JOIN (
    SELECT grp, kind = 'tool' AS is_tool
    FROM turn_rows
    WHERE kind IN ('llm', 'embeddings', 'tool')
    GROUP BY ALL
    HAVING count(DISTINCT coalesce(scope, '')) > 1
    OR (
        NOT is_tool
        AND bool_or(
            parent_span_id IS NOT NULL
            AND parent_span_id IS DISTINCT FROM step_id
            AND parent_span_id IS DISTINCT FROM turn_id
        )
    )
) d ON d.grp = c.grp AND d.is_tool = (c.kind = 'tool')
WHERE c.kind IN ('llm', 'embeddings', 'tool')
ORDER BY ALL;
