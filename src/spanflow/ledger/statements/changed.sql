-- `changed`: rows of touched spans that differ from what is stored, and `recomputed`: other rows of their turns that do.
-- Most rows of a long turn are neither, and are not written again.
CREATE OR REPLACE TEMP TABLE changed AS
SELECT
    @fields,
    coalesce(started_ns, ended_ns, 0) AS at_ns,
    c.counted,
    c.not_counted_because,
    c.step_name,
    coalesce(len(list_filter(event_list(events), lambda event: event.kind = 'error')), 0) AS errors,
    c.llm_calls,
    c.tool_calls,
    c.calls_without_usage,
    c.unpriced_calls,
    c.used_input_tokens,
    c.used_output_tokens,
    c.used_cache_read_tokens,
    c.used_cache_write_tokens,
    c.used_reasoning_tokens,
    c.used_total_tokens,
    c.used_cost_usd
FROM merged
JOIN (FROM computed WHERE row_id IS NULL) c USING (trace_id, span_id)
EXCEPT
SELECT * EXCLUDE (row_id, revision) FROM existing;

CREATE OR REPLACE TEMP TABLE recomputed AS
SELECT c.*
FROM computed c
JOIN records r ON r.rowid = c.row_id
WHERE @different;
