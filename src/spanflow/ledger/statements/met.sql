-- The turns that strangers have open.
CREATE OR REPLACE TEMP TABLE touched_turns AS
SELECT turn_id
FROM turn_facts
WHERE is_open AND process_id IN (SELECT process_id FROM strangers);
