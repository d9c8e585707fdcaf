-- Write what `computed` says into the rows that lost a neighbour, and room for the facts of their turns.
UPDATE records
SET @recomputed, revision = (SELECT revision FROM meta)
FROM computed c
WHERE records.rowid = c.row_id;

CREATE OR REPLACE TEMP TABLE touched_engagements (engagement_id VARCHAR);
CREATE OR REPLACE TEMP TABLE chains_before AS
SELECT turn_id, chain_id
FROM turn_facts
SEMI JOIN touched_turns USING (turn_id)
WHERE chain_id IS NOT NULL;

DELETE FROM turn_facts WHERE turn_id IN (FROM touched_turns);
