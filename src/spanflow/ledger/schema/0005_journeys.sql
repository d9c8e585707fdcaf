-- What makes one journey of several turns: the same task run again, what triggered it, what a resume answered, where a
-- fork left from.

ALTER TABLE records ADD COLUMN execution_id VARCHAR;      -- steps: shared by a pause and its resumption, a crash and its retry
ALTER TABLE records ADD COLUMN triggered_by JSON;         -- steps: the ids of the steps that caused it
ALTER TABLE records ADD COLUMN attempt BIGINT;            -- calls: the attempt of the step they were made in
ALTER TABLE records ADD COLUMN answers JSON;              -- turns: the interrupts that a resume answers
ALTER TABLE records ADD COLUMN resolution VARCHAR;        -- turns: what the app calls that answer
ALTER TABLE records ADD COLUMN origin_turn_id VARCHAR;    -- turns: whose checkpoint a fork began at,
ALTER TABLE records ADD COLUMN origin_superstep BIGINT;   -- and after which superstep of it

ALTER TABLE partials ADD COLUMN execution_id VARCHAR;
ALTER TABLE partials ADD COLUMN triggered_by JSON;
ALTER TABLE partials ADD COLUMN attempt BIGINT;
ALTER TABLE partials ADD COLUMN answers JSON;
ALTER TABLE partials ADD COLUMN resolution VARCHAR;
ALTER TABLE partials ADD COLUMN origin_turn_id VARCHAR;
ALTER TABLE partials ADD COLUMN origin_superstep BIGINT;

-- Computed of all turns of a chain (a turn, and the resumptions and retries that follow it), wherever there is more to
-- say than of one turn alone. The defaults say: nothing is done again here.
ALTER TABLE records ADD COLUMN repeats VARCHAR;           -- steps and calls: replay, retry or fork
ALTER TABLE records ADD COLUMN chain_visit BIGINT;        -- steps: the how-manieth visit in a chain of several turns
ALTER TABLE records ADD COLUMN used_replayed_tokens BIGINT DEFAULT 0;
ALTER TABLE records ADD COLUMN used_retried_tokens BIGINT DEFAULT 0;
ALTER TABLE records ADD COLUMN used_forked_tokens BIGINT DEFAULT 0;
ALTER TABLE records ADD COLUMN used_replayed_cost_usd DOUBLE DEFAULT 0;
ALTER TABLE records ADD COLUMN used_retried_cost_usd DOUBLE DEFAULT 0;
ALTER TABLE records ADD COLUMN used_forked_cost_usd DOUBLE DEFAULT 0;

ALTER TABLE turn_facts ADD COLUMN answers JSON;
ALTER TABLE turn_facts ADD COLUMN resolution VARCHAR;
ALTER TABLE turn_facts ADD COLUMN origin_turn_id VARCHAR;
ALTER TABLE turn_facts ADD COLUMN origin_superstep BIGINT;
ALTER TABLE turn_facts ADD COLUMN origin_step_id VARCHAR; -- the step of that turn that wrote the checkpoint
ALTER TABLE turn_facts ADD COLUMN mark VARCHAR;           -- gave_up or expired: what ends the engagement with this turn
ALTER TABLE turn_facts ADD COLUMN chain_id VARCHAR;       -- the first turn of its chain; null where it stands alone
ALTER TABLE turn_facts ADD COLUMN resolved VARCHAR;       -- what became of its answer
ALTER TABLE turn_facts ADD COLUMN replayed_tokens BIGINT DEFAULT 0;
ALTER TABLE turn_facts ADD COLUMN retried_tokens BIGINT DEFAULT 0;
ALTER TABLE turn_facts ADD COLUMN forked_tokens BIGINT DEFAULT 0;
ALTER TABLE turn_facts ADD COLUMN replayed_cost_usd DOUBLE DEFAULT 0;
ALTER TABLE turn_facts ADD COLUMN retried_cost_usd DOUBLE DEFAULT 0;
ALTER TABLE turn_facts ADD COLUMN forked_cost_usd DOUBLE DEFAULT 0;

-- One row for each time a turn paused for a question, with what became of it.
CREATE TABLE wait_facts (
    engagement_id VARCHAR, turn_id VARCHAR NOT NULL, trace_id VARCHAR, span_id VARCHAR,
    interrupt_id VARCHAR,               -- null where nobody told it
    kind VARCHAR NOT NULL,              -- interrupt, before or after
    step_id VARCHAR, step_name VARCHAR, path VARCHAR,
    around VARCHAR[],                   -- the steps that waited: its own, and those around it
    label VARCHAR, payload JSON,
    asked_ns BIGINT NOT NULL, at_ns BIGINT NOT NULL,
    is_first BOOLEAN NOT NULL,          -- not merely asked again
    answered_turn_id VARCHAR, answered_ns BIGINT, resolution VARCHAR
);

-- Processes of other hosts that were alive when their ledger was taken in: nobody here sees them die.
CREATE TABLE strangers (process_id VARCHAR NOT NULL);
