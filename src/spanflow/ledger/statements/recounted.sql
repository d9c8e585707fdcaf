-- Write what `computed` says into the rows that lost a neighbour, and room for the facts of their turns.
UPDATE records
SET @recomputed, revision = (SELECT revision FROM meta)
FROM computed c
WHERE records.rowid = c.row_id;

DELETE FROM turn_facts WHERE turn_id IN (FROM touched_turns);
