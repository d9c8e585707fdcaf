-- Replace what differs, and compute the facts of the touched turns anew.
DELETE FROM records
WHERE rowid IN (SELECT row_id FROM existing SEMI JOIN changed USING (trace_id, span_id));

INSERT INTO records BY NAME
SELECT *, (SELECT revision + 1 FROM meta) AS revision
FROM changed
ORDER BY at_ns, trace_id, span_id;

UPDATE records
SET @recomputed
FROM recomputed c
WHERE records.rowid = c.row_id;

DELETE FROM turn_facts WHERE turn_id IN (FROM touched_turns);
