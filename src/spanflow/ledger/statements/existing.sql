-- `existing`: all rows of the touched turns, and rows of no turn in the touched traces.
CREATE OR REPLACE TEMP TABLE existing AS
SELECT r.rowid AS row_id, r.*
FROM records r
SEMI JOIN touched_turns USING (turn_id)
WHERE r.at_ns BETWEEN @low AND @high
UNION ALL
SELECT r.rowid AS row_id, r.*
FROM records r
SEMI JOIN (SELECT DISTINCT trace_id FROM incoming) i USING (trace_id)
WHERE r.turn_id IS NULL;
