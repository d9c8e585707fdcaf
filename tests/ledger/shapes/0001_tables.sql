-- The tables of a ledger. No primary keys, no indexes, no upserts: an interrupted write must never leave a file that
-- refuses the next one; ingestion keeps keys unique by rewriting the rows of the turns it touches.

CREATE TABLE meta (
    format VARCHAR NOT NULL,            -- always 'spanflow ledger': how a file is known as ours
    created_at TIMESTAMP NOT NULL,
    revision BIGINT NOT NULL,           -- grows whenever rows change
    as_of TIMESTAMP,                    -- a fixed "now" for every view, or null
    idle_after INTERVAL NOT NULL,       -- silent longer than this, a waiting engagement is abandoned
    refused_records BIGINT NOT NULL,    -- lines that were no records
    quarantined_segments BIGINT NOT NULL
);
INSERT INTO meta
VALUES ('spanflow ledger', make_timestamp(epoch_us(now())), 0, NULL, INTERVAL 30 MINUTE, 0, 0);

-- One row a span: the winner among its records, with what the others alone said filled in.
CREATE TABLE records (
    v BIGINT, source VARCHAR, phase VARCHAR, kind VARCHAR, process_id VARCHAR,
    trace_id VARCHAR, span_id VARCHAR, parent_span_id VARCHAR,
    engagement_id VARCHAR, turn_id VARCHAR, step_id VARCHAR, parent_step_id VARCHAR,
    name VARCHAR, started_ns BIGINT, ended_ns BIGINT, status VARCHAR,
    error_type VARCHAR, error_message VARCHAR, error_stack VARCHAR USING COMPRESSION zstd,
    attributes JSON USING COMPRESSION zstd, events JSON USING COMPRESSION zstd, links JSON USING COMPRESSION zstd,
    service_name VARCHAR, scope VARCHAR,
    turn_kind VARCHAR, graph_version VARCHAR, on_thread BOOLEAN, goals JSON USING COMPRESSION zstd, goal VARCHAR,
    user_id VARCHAR, session_id VARCHAR, conversation_id VARCHAR, metadata JSON USING COMPRESSION zstd,
    path VARCHAR, visit BIGINT, attempts BIGINT, superstep BIGINT, is_global BOOLEAN, replayed BOOLEAN,
    tools_available JSON USING COMPRESSION zstd, agent_name VARCHAR,
    operation VARCHAR, provider VARCHAR, model VARCHAR, request_model VARCHAR, response_id VARCHAR,
    input_tokens BIGINT, output_tokens BIGINT, cache_read_tokens BIGINT, cache_write_tokens BIGINT,
    reasoning_tokens BIGINT, total_tokens BIGINT, cost_usd DOUBLE, usage_flags JSON USING COMPRESSION zstd,
    time_to_first_token_ms DOUBLE, caller VARCHAR,
    call_id VARCHAR, arguments VARCHAR USING COMPRESSION zstd, result VARCHAR USING COMPRESSION zstd,
    -- Computed from all rows of the turn whenever one of them changes:
    at_ns BIGINT NOT NULL,              -- start, else end, else 0: what rows are pruned by
    counted BOOLEAN,                    -- calls: whether sums include it
    not_counted_because VARCHAR,
    step_name VARCHAR,                  -- the name of the step it happened in
    errors BIGINT NOT NULL,             -- its events of kind error
    llm_calls BIGINT, tool_calls BIGINT, calls_without_usage BIGINT, unpriced_calls BIGINT,
    used_input_tokens BIGINT, used_output_tokens BIGINT, used_cache_read_tokens BIGINT,
    used_cache_write_tokens BIGINT, used_reasoning_tokens BIGINT, used_total_tokens BIGINT, used_cost_usd DOUBLE
);

-- The single records of those spans whose records still complete each other, so that any order of arrival merges alike.
CREATE TABLE partials (
    v BIGINT, source VARCHAR, phase VARCHAR, kind VARCHAR, process_id VARCHAR,
    trace_id VARCHAR, span_id VARCHAR, parent_span_id VARCHAR,
    engagement_id VARCHAR, turn_id VARCHAR, step_id VARCHAR, parent_step_id VARCHAR,
    name VARCHAR, started_ns BIGINT, ended_ns BIGINT, status VARCHAR,
    error_type VARCHAR, error_message VARCHAR, error_stack VARCHAR USING COMPRESSION zstd,
    attributes JSON USING COMPRESSION zstd, events JSON USING COMPRESSION zstd, links JSON USING COMPRESSION zstd,
    service_name VARCHAR, scope VARCHAR,
    turn_kind VARCHAR, graph_version VARCHAR, on_thread BOOLEAN, goals JSON USING COMPRESSION zstd, goal VARCHAR,
    user_id VARCHAR, session_id VARCHAR, conversation_id VARCHAR, metadata JSON USING COMPRESSION zstd,
    path VARCHAR, visit BIGINT, attempts BIGINT, superstep BIGINT, is_global BOOLEAN, replayed BOOLEAN,
    tools_available JSON USING COMPRESSION zstd, agent_name VARCHAR,
    operation VARCHAR, provider VARCHAR, model VARCHAR, request_model VARCHAR, response_id VARCHAR,
    input_tokens BIGINT, output_tokens BIGINT, cache_read_tokens BIGINT, cache_write_tokens BIGINT,
    reasoning_tokens BIGINT, total_tokens BIGINT, cost_usd DOUBLE, usage_flags JSON USING COMPRESSION zstd,
    time_to_first_token_ms DOUBLE, caller VARCHAR,
    call_id VARCHAR, arguments VARCHAR USING COMPRESSION zstd, result VARCHAR USING COMPRESSION zstd
);

-- One row a turn, computed from its records.
CREATE TABLE turn_facts (
    turn_id VARCHAR NOT NULL, engagement_id VARCHAR, trace_id VARCHAR, process_id VARCHAR, service_name VARCHAR,
    name VARCHAR, turn_kind VARCHAR, outcome VARCHAR, is_open BOOLEAN NOT NULL,
    graph_version VARCHAR, on_thread BOOLEAN NOT NULL, goals JSON,
    goal VARCHAR, goal_ns BIGINT,       -- the goal reached first, and when
    dropped_at VARCHAR,                 -- where this turn would have been left
    user_id VARCHAR, session_id VARCHAR, conversation_id VARCHAR, metadata JSON USING COMPRESSION zstd,
    started_ns BIGINT, ended_ns BIGINT,
    first_ns BIGINT NOT NULL, last_ns BIGINT NOT NULL,    -- of all its records
    error_type VARCHAR, error_message VARCHAR,
    steps BIGINT NOT NULL, errors BIGINT NOT NULL, unknown_step_records BIGINT NOT NULL,
    llm_calls BIGINT NOT NULL, tool_calls BIGINT NOT NULL,
    calls_without_usage BIGINT NOT NULL, unpriced_calls BIGINT NOT NULL,
    -- Null where no call says it; zero where there is no call.
    input_tokens BIGINT, output_tokens BIGINT, cache_read_tokens BIGINT, cache_write_tokens BIGINT,
    reasoning_tokens BIGINT, total_tokens BIGINT, cost_usd DOUBLE
);

-- The topology of every graph version seen.
CREATE TABLE graph_versions (graph_version VARCHAR NOT NULL, name VARCHAR, nodes JSON, edges JSON);

-- Processes that are gone and whose segments are all ingested.
CREATE TABLE processes (
    process_id VARCHAR NOT NULL, pid BIGINT, host VARCHAR, started_ns BIGINT, service_name VARCHAR,
    gone_at_ns BIGINT NOT NULL
);

-- Segments ingested whose files may still be there; rows go when the files are gone.
CREATE TABLE segments (
    name VARCHAR NOT NULL, ingested_at TIMESTAMP NOT NULL
);
