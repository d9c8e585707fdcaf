-- Replace what differs, and compute the facts of the touched turns anew.
DELETE FROM records
WHERE rowid IN (SELECT row_id FROM twins ANTI JOIN unchanged USING (trace_id, span_id));

-- In order of time: rows are pruned by it, and row groups that several threads fill come out whole, where a checkpoint
-- would else write them again.
INSERT INTO records BY NAME
SELECT *, (SELECT revision + 1 FROM meta) AS revision
FROM fresh
ANTI JOIN unchanged USING (trace_id, span_id)
ORDER BY at_ns;

UPDATE records
SET @recomputed
FROM recomputed c
WHERE records.rowid = c.row_id;

-- A turn may have been told of another engagement than before: both are summed up anew.
CREATE OR REPLACE TEMP TABLE touched_engagements AS
SELECT DISTINCT engagement_id
FROM turn_facts
SEMI JOIN touched_turns USING (turn_id);

-- Which chains they were in: who stays behind has lost a neighbour.
CREATE OR REPLACE TEMP TABLE chains_before AS
SELECT turn_id, chain_id
FROM turn_facts
SEMI JOIN touched_turns USING (turn_id)
WHERE chain_id IS NOT NULL;

DELETE FROM turn_facts WHERE turn_id IN (FROM touched_turns);
