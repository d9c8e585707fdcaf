-- `fresh`: the touched rows as they are to be; `unchanged`: those that are so already, and are not written again.
CREATE OR REPLACE TEMP VIEW fresh AS
SELECT
    @fields,
    coalesce(started_ns, ended_ns, 0) AS at_ns,
    counted,
    not_counted_because,
    step_name,
    if(
        events IS NULL, 0, coalesce(len(list_filter(event_list(events), lambda event: event.kind = 'error')), 0)
    ) AS errors,
    @computed
FROM computed
WHERE row_id IS NULL;

CREATE OR REPLACE TEMP TABLE unchanged AS
SELECT trace_id, span_id
FROM (
    FROM fresh SEMI JOIN twins USING (trace_id, span_id)
    INTERSECT
    SELECT @fields, at_ns, counted, not_counted_because, step_name, errors, @computed FROM existing
);

-- Other rows of these turns that are now computed differently.
CREATE OR REPLACE TEMP TABLE recomputed AS
SELECT c.row_id, @recomputed_columns
FROM computed c
JOIN records r ON r.rowid = c.row_id
WHERE c.row_id IS NOT NULL AND (@different);
