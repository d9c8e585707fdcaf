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
