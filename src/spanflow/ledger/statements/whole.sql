-- `turn_rows`: all rows of `touched_turns`, and those outside a turn of `touched_traces`.
CREATE OR REPLACE TEMP VIEW turn_rows AS
SELECT @fields, turn_id AS grp, rowid AS row_id
FROM records
SEMI JOIN touched_turns USING (turn_id)
UNION ALL
SELECT @fields, trace_id, rowid
FROM records
SEMI JOIN touched_traces USING (trace_id)
WHERE turn_id IS NULL;
