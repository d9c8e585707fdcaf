-- Between which times rows of the new records' spans may lie: an hour around them, and the whole of the turns they name.
SELECT
    least(i.low, t.low),
    greatest(i.high, t.high)
FROM (
    SELECT
        min(coalesce(started_ns, ended_ns, 0)) - 3600000000000 AS low,
        max(coalesce(started_ns, ended_ns, 0)) + 3600000000000 AS high
    FROM incoming
) i
CROSS JOIN (
    SELECT min(first_ns) AS low, max(last_ns) AS high
    FROM turn_facts
    SEMI JOIN (SELECT turn_id FROM incoming WHERE turn_id IS NOT NULL) USING (turn_id)
) t;
