-- When the first and the last rows of the touched turns began, as they were stored and as they will be.
SELECT
    least(first_ns, (SELECT min(coalesce(started_ns, ended_ns, 0)) FROM merged)),
    greatest(last_ns, (SELECT max(coalesce(started_ns, ended_ns, 0)) FROM merged))
FROM (
    SELECT min(first_ns) AS first_ns, max(last_ns) AS last_ns
    FROM turn_facts
    SEMI JOIN touched_turns USING (turn_id)
);
