-- `slices` of another ledger's copy: its rows in bounded parts, those of a turn (without a turn: of a trace) in one.
CREATE OR REPLACE TABLE slices AS
SELECT
    grp,
    rows,
    first_ns,
    last_ns,
    ((sum(rows) OVER (ORDER BY first_ns, grp ROWS UNBOUNDED PRECEDING) - rows) // @slice_rows)::BIGINT AS slice
FROM (
    SELECT coalesce(turn_id, trace_id) AS grp, count(*) AS rows, min(at_ns) AS first_ns, max(at_ns) AS last_ns
    FROM records
    GROUP BY ALL
);
