-- Replace what differs; the facts of the touched turns are written anew next.
DELETE FROM records
WHERE rowid IN (SELECT row_id FROM existing SEMI JOIN changed USING (trace_id, span_id));

INSERT INTO records BY NAME FROM changed ORDER BY at_ns, trace_id, span_id;

DELETE FROM turn_facts
WHERE turn_id IN (FROM touched_turns UNION SELECT turn_id FROM fresh WHERE turn_id IS NOT NULL);
