-- What was erased stays erased, however late its records come.
CREATE OR REPLACE TEMP TABLE erased_ids AS
SELECT id
FROM (SELECT DISTINCT unnest([engagement_id, turn_id]) AS id FROM incoming)
WHERE sha256((SELECT salt FROM meta) || id) IN (SELECT id_hash FROM tombstones);

DELETE FROM incoming
WHERE engagement_id IN (FROM erased_ids) OR turn_id IN (FROM erased_ids);
