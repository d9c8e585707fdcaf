-- `differing`: calls that the prices as they are now make cost something else than was computed of them.
CREATE OR REPLACE TEMP TABLE differing AS
SELECT turn_id, trace_id
FROM repriced()
WHERE cost_reported IS NOT true AND repriced_usd IS DISTINCT FROM cost_usd;

CREATE OR REPLACE TEMP TABLE differing_turns AS
SELECT turn_id, row_number() OVER (ORDER BY turn_id) // @at_once AS batch
FROM (SELECT DISTINCT turn_id FROM differing WHERE turn_id IS NOT NULL);
