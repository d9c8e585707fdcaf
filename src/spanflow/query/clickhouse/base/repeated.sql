-- The calls that count, with the step they belong to and what they do again: in a turn that left from an earlier checkpoint
-- all of them; of an execution that had failed, or was through and lost, or is tried again, all; of one that waited as many
-- as it had made in the attempt that waited.
SELECT
    c.trace_id AS trace_id,
    c.span_id AS span_id,
    c.engagement_id AS engagement_id,
    c.turn_id AS turn_id,
    c.is_tool AS is_tool,
    c.at_ns AS at_ns,
    c.model AS model,
    c.provider AS provider,
    c.operation AS operation,
    c.agent_name AS agent_name,
    c.caller AS caller,
    c.service_name AS service_name,
    c.input_tokens AS input_tokens,
    c.output_tokens AS output_tokens,
    c.cache_read_tokens AS cache_read_tokens,
    c.cache_write_tokens AS cache_write_tokens,
    c.reasoning_tokens AS reasoning_tokens,
    c.total_tokens AS total_tokens,
    c.cost_usd AS cost_usd,
    c.is_known AS is_known,
    p.path AS step_path,
    p.around AS around,
    c.turn_id != '' AND c.turn_id IN (SELECT turn_id FROM turns WHERE kind = 'fork') AS is_fork,
    multiIf(
        is_fork, 'fork',
        c.attempt > 1 OR p.before.1 IN ('failed', 'cancelled') OR (p.before.1 = 'completed' AND p.before.5), 'retry',
        p.before.1 = 'waiting' AND c.nth <= m.made, 'replay',
        ''
    ) AS repeats
FROM (
    SELECT *, row_number() OVER (PARTITION BY turn_id, step_id ORDER BY at_ns, span_id) AS nth
    FROM calls
    WHERE (trace_id, span_id) NOT IN (SELECT trace_id, span_id FROM uncounted)
) AS c
LEFT JOIN placed AS p ON p.turn_id = c.turn_id AND p.span_id = c.step_id
LEFT JOIN (
    SELECT o.turn_id AS turn_id, o.step_id AS step_id, count() AS made
    FROM calls AS o
    JOIN placed AS q ON q.turn_id = o.turn_id AND q.span_id = o.step_id
    WHERE o.attempt = q.attempts AND (o.trace_id, o.span_id) NOT IN (SELECT trace_id, span_id FROM uncounted)
    GROUP BY o.turn_id, o.step_id
) AS m ON m.turn_id = p.before.2 AND m.step_id = p.before.3
