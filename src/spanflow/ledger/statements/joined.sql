-- From one slice of another ledger to `incoming` and `incoming_graphs`. Where a span's single records are kept they are
-- taken instead of the row: the row says as one record what they say by rank, and would hide what ours know better.
DROP TABLE IF EXISTS incoming;
CREATE TEMP TABLE incoming AS
WITH spans AS (
    SELECT @fields
    FROM other.records r
    SEMI JOIN (FROM other.slices WHERE slice = @slice) s ON s.grp = coalesce(r.turn_id, r.trace_id)
    WHERE r.at_ns BETWEEN @low AND @high
)
SELECT @fields FROM spans ANTI JOIN other.partials USING (trace_id, span_id)
UNION ALL
SELECT @fields FROM other.partials SEMI JOIN spans USING (trace_id, span_id);

CREATE OR REPLACE TEMP TABLE incoming_graphs AS
SELECT graph_version, name, nodes, edges
FROM other.graph_versions
WHERE @slice = 0;
