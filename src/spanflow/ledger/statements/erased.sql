-- What was erased stays erased, however late its records come. Outside engagements whole traces and single calls were.
CREATE OR REPLACE TEMP MACRO names_of(engagement_id, turn_id, trace_id, span_id) AS
    if(
        engagement_id IS NULL AND turn_id IS NULL,
        [trace_id, concat(trace_id, '/', span_id)],
        [engagement_id, turn_id]
    );

CREATE OR REPLACE TEMP TABLE erased_ids AS
SELECT id
FROM (SELECT DISTINCT unnest(names_of(engagement_id, turn_id, trace_id, span_id)) AS id FROM incoming)
WHERE sha256((SELECT salt FROM meta) || id) IN (SELECT id_hash FROM tombstones);

DELETE FROM incoming
WHERE list_has_any(
    names_of(engagement_id, turn_id, trace_id, span_id), (SELECT coalesce(list(id), []) FROM erased_ids)
);
