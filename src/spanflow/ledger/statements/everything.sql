-- As if every turn had just been told.
CREATE OR REPLACE TEMP TABLE touched_turns AS SELECT DISTINCT turn_id FROM turn_facts;
