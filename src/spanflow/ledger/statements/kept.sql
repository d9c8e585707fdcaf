-- From the store `old` to this one, blank until now: everything but what is gone. `gone_engagements`, `gone_turns`,
-- `gone_traces` and `gone_spans` hold ids; the last two are of calls outside engagements.
CREATE OR REPLACE TEMP MACRO is_gone(engagement_id, turn_id, trace_id, span_id) AS
    coalesce(engagement_id IN (FROM gone_engagements), false)
    OR coalesce(turn_id IN (FROM gone_turns), false)
    OR (
        engagement_id IS NULL AND turn_id IS NULL
        AND (trace_id IN (FROM gone_traces) OR concat(trace_id, '/', span_id) IN (FROM gone_spans))
    );

DELETE FROM meta;
INSERT INTO meta BY NAME SELECT * REPLACE (revision + 1 AS revision) FROM old.meta;

INSERT INTO records BY NAME
FROM old.records WHERE NOT is_gone(engagement_id, turn_id, trace_id, span_id);

INSERT INTO partials BY NAME
FROM old.partials WHERE NOT is_gone(engagement_id, turn_id, trace_id, span_id);

INSERT INTO turn_facts BY NAME
FROM old.turn_facts WHERE NOT is_gone(engagement_id, turn_id, NULL, NULL);

INSERT INTO wait_facts BY NAME
FROM old.wait_facts WHERE NOT is_gone(engagement_id, turn_id, NULL, NULL);

-- A living process tells of a graph only once, and may yet run it.
INSERT INTO graph_versions BY NAME
FROM old.graph_versions
WHERE @keep_graphs OR graph_version IN (SELECT graph_version FROM records WHERE graph_version IS NOT NULL);

INSERT INTO processes BY NAME
FROM old.processes
WHERE process_id IN (
    SELECT process_id FROM records WHERE process_id IS NOT NULL
    UNION
    SELECT process_id FROM partials WHERE process_id IS NOT NULL
);

INSERT INTO tombstones BY NAME
FROM old.tombstones
UNION
SELECT sha256((SELECT salt FROM meta) || id) AS id_hash, make_timestamp(epoch_us(now())) AS erased_at
FROM (FROM gone_engagements UNION FROM gone_turns UNION FROM gone_traces UNION FROM gone_spans) t(id)
WHERE sha256((SELECT salt FROM meta) || id) NOT IN (SELECT id_hash FROM old.tombstones);

-- Of what is kept, these lost a neighbour, and are counted anew.
CREATE OR REPLACE TEMP TABLE lost AS
SELECT DISTINCT turn_id, trace_id
FROM old.records
WHERE is_gone(engagement_id, turn_id, trace_id, span_id);

CREATE OR REPLACE TEMP TABLE touched_turns AS
SELECT DISTINCT turn_id FROM turn_facts WHERE turn_id IN (SELECT turn_id FROM lost WHERE turn_id IS NOT NULL);

CREATE OR REPLACE TEMP TABLE touched_traces AS
SELECT DISTINCT trace_id
FROM records
WHERE turn_id IS NULL AND trace_id IN (SELECT trace_id FROM lost WHERE turn_id IS NULL);
