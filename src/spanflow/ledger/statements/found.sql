-- Of the engagements in `chosen`: their turns, and where in the ledger their rows lie. A row belongs to whom it names, and
-- to whom its turn belongs: what was moved from one to another is missed by the first.
CREATE OR REPLACE TEMP TABLE chosen_turns AS
SELECT c.number, f.turn_id
FROM ledger.turn_facts f
JOIN chosen c USING (engagement_id)
UNION
SELECT c.number, r.turn_id
FROM ledger.records r
JOIN chosen c USING (engagement_id)
WHERE r.turn_id IS NOT NULL;

CREATE OR REPLACE TEMP TABLE placed AS
SELECT t.number, r.rowid AS origin
FROM ledger.records r
JOIN chosen_turns t USING (turn_id)
UNION
SELECT c.number, r.rowid
FROM ledger.records r
JOIN chosen c USING (engagement_id);

-- Calls outside a turn are judged by trace, whoever made the others.
CREATE OR REPLACE TEMP TABLE touched_traces AS
SELECT DISTINCT r.trace_id
FROM ledger.records r
WHERE r.turn_id IS NULL AND r.rowid IN (SELECT origin FROM placed);

-- A turn is judged beside the others of its engagement, whose ever that is.
CREATE OR REPLACE TEMP TABLE touched_turns AS
SELECT turn_id FROM chosen_turns
UNION
SELECT turn_id
FROM ledger.turn_facts
WHERE engagement_id IN (SELECT engagement_id FROM ledger.turn_facts SEMI JOIN chosen_turns USING (turn_id));

CREATE OR REPLACE TEMP TABLE needed AS
SELECT origin FROM placed
UNION
SELECT r.rowid
FROM ledger.records r
SEMI JOIN touched_turns USING (turn_id)
UNION
SELECT r.rowid
FROM ledger.records r
SEMI JOIN touched_traces USING (trace_id)
WHERE r.turn_id IS NULL;
