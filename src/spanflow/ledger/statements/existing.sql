-- `existing`: the rows of the touched spans as they are.
CREATE OR REPLACE TEMP TABLE existing AS
SELECT r.rowid AS row_id, r.*
FROM records r
SEMI JOIN touched_spans USING (trace_id, span_id)
SEMI JOIN touched_turns USING (turn_id)
WHERE r.at_ns BETWEEN @low AND @high
UNION ALL
SELECT r.rowid AS row_id, r.*
FROM records r
SEMI JOIN touched_spans USING (trace_id, span_id)
WHERE r.turn_id IS NULL;
