-- From segments to `incoming` (spans) and `incoming_graphs`. A value that makes no sense becomes null; a line that names
-- no span is refused. A torn line is a row of nulls.
CREATE OR REPLACE TEMP MACRO sane_ns(x) AS CASE WHEN x BETWEEN 0 AND 4611686018427387903 THEN x END;
CREATE OR REPLACE TEMP MACRO sane_number(x) AS CASE WHEN x BETWEEN 0 AND 9007199254740991 THEN x END;
CREATE OR REPLACE TEMP MACRO sane_tokens(x) AS CASE WHEN x BETWEEN 0 AND 1000000000000 THEN x END;
-- What was read as JSON has no space before its first sign, and needs no second parsing.
CREATE OR REPLACE TEMP MACRO sane_list(x) AS CASE WHEN starts_with(x::VARCHAR, '[') THEN x END;
CREATE OR REPLACE TEMP MACRO sane_object(x) AS CASE WHEN starts_with(x::VARCHAR, '{') THEN x END;

DROP TABLE IF EXISTS incoming;
CREATE TEMP TABLE incoming AS
SELECT * REPLACE (
    CASE WHEN phase IN ('start', 'end') THEN phase WHEN ended_ns IS NOT NULL THEN 'end' ELSE 'start' END AS phase,
    CASE
        WHEN kind IN ('turn', 'workflow', 'step', 'llm', 'embeddings', 'tool', 'retrieval', 'span', 'graph') THEN kind
        ELSE 'span'
    END AS kind,
    nullif(parent_span_id, '') AS parent_span_id,
    nullif(engagement_id, '') AS engagement_id,
    if(kind = 'turn', span_id, nullif(turn_id, '')) AS turn_id,
    if(kind = 'step', span_id, nullif(step_id, '')) AS step_id,
    if(kind = 'step', nullif(parent_step_id, ''), NULL) AS parent_step_id,
    sane_ns(started_ns) AS started_ns,
    sane_ns(ended_ns) AS ended_ns,
    sane_object(attributes) AS attributes,
    sane_list(events) AS events,
    sane_list(links) AS links,
    sane_list(goals) AS goals,
    sane_object(metadata) AS metadata,
    sane_list(tools_available) AS tools_available,
    sane_list(usage_flags) AS usage_flags,
    sane_number(visit) AS visit,
    sane_number(attempts) AS attempts,
    sane_number(attempt) AS attempt,
    sane_list(triggered_by) AS triggered_by,
    sane_list(answers) AS answers,
    CASE WHEN origin_superstep BETWEEN -9007199254740991 AND 9007199254740991 THEN origin_superstep END
        AS origin_superstep,
    CASE WHEN superstep BETWEEN -9007199254740991 AND 9007199254740991 THEN superstep END AS superstep,
    sane_tokens(input_tokens) AS input_tokens,
    sane_tokens(output_tokens) AS output_tokens,
    sane_tokens(cache_read_tokens) AS cache_read_tokens,
    sane_tokens(cache_write_tokens) AS cache_write_tokens,
    sane_tokens(reasoning_tokens) AS reasoning_tokens,
    coalesce(sane_tokens(total_tokens), sane_tokens(input_tokens) + sane_tokens(output_tokens)) AS total_tokens,
    CASE WHEN cost_usd BETWEEN 0 AND 1e9 THEN cost_usd END AS cost_usd,
    CASE WHEN time_to_first_token_ms BETWEEN 0 AND 1e12 THEN time_to_first_token_ms END AS time_to_first_token_ms
)
FROM read_json(
    @files,
    format = 'newline_delimited',
    ignore_errors = true,
    maximum_object_size = 33554432,
    columns = {@read_columns}
);

CREATE OR REPLACE TEMP TABLE incoming_graphs AS
SELECT graph_version, name, nodes, edges
FROM incoming
WHERE kind = 'graph' AND graph_version <> '';
