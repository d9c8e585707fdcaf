-- The turns that processes left open which are gone now.
CREATE OR REPLACE TEMP TABLE touched_turns AS
SELECT turn_id
FROM turn_facts
WHERE is_open AND process_id IN (SELECT unnest($1::VARCHAR[]));
