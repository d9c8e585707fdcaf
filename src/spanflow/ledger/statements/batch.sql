-- Of the differing calls: one batch of turns, and with the first of them the traces of calls outside any turn.
CREATE OR REPLACE TEMP TABLE touched_turns AS
SELECT turn_id FROM differing_turns WHERE batch = @batch;

CREATE OR REPLACE TEMP TABLE touched_traces AS
SELECT DISTINCT trace_id FROM differing WHERE turn_id IS NULL AND @batch = 0;
