-- What began or ended. `told_ns` is when: rows are told in its order within a revision of the ledger.
SELECT
    CASE WHEN r.kind IN ('llm', 'embeddings') THEN 'llm_call' WHEN r.kind = 'tool' THEN 'tool_call' ELSE r.kind END
        AS kind,
    if(r.phase = 'end' OR p.process_id IS NOT NULL, 'ended', 'started') AS phase,
    r.engagement_id,
    r.turn_id,
    r.step_id,
    if(r.kind IN ('llm', 'embeddings'), coalesce(r.model, r.request_model), r.name) AS name,
    r.path,
    CASE
        WHEN r.phase = 'end' THEN r.status
        WHEN p.process_id IS NOT NULL THEN 'interrupted'
        ELSE coalesce(r.status, if(r.kind = 'step', 'running', NULL))
    END AS status,
    make_timestamp(told_ns // 1000) AS at,
    if(r.phase = 'end', to_ms(r.started_ns, r.ended_ns), NULL) AS duration_ms,
    r.error_type,
    CASE r.kind WHEN 'step' THEN r.used_input_tokens WHEN 'turn' THEN f.input_tokens ELSE r.input_tokens END
        AS input_tokens,
    CASE r.kind WHEN 'step' THEN r.used_output_tokens WHEN 'turn' THEN f.output_tokens ELSE r.output_tokens END
        AS output_tokens,
    CASE r.kind WHEN 'step' THEN r.used_cache_read_tokens WHEN 'turn' THEN f.cache_read_tokens
        ELSE r.cache_read_tokens END AS cache_read_tokens,
    CASE r.kind WHEN 'step' THEN r.used_cache_write_tokens WHEN 'turn' THEN f.cache_write_tokens
        ELSE r.cache_write_tokens END AS cache_write_tokens,
    CASE r.kind WHEN 'step' THEN r.used_reasoning_tokens WHEN 'turn' THEN f.reasoning_tokens
        ELSE r.reasoning_tokens END AS reasoning_tokens,
    CASE r.kind WHEN 'step' THEN r.used_total_tokens WHEN 'turn' THEN f.total_tokens ELSE r.total_tokens END
        AS total_tokens,
    CASE r.kind WHEN 'step' THEN r.used_cost_usd WHEN 'turn' THEN f.cost_usd ELSE r.cost_usd END AS cost_usd,
    r.trace_id,
    r.span_id,
    r.revision,
    told_ns
FROM (
    SELECT *, if(phase = 'end', coalesce(ended_ns, at_ns), at_ns) AS told_ns
    FROM records
    WHERE $engagement_id IS NULL OR engagement_id = $engagement_id
) r
LEFT JOIN processes p ON p.process_id = r.process_id AND r.phase <> 'end'
LEFT JOIN turn_facts f ON r.kind = 'turn' AND f.turn_id = r.turn_id
WHERE {where}
ORDER BY {order}
LIMIT $most
