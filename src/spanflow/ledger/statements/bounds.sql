-- When the first and the last rows of the touched turns began, as they are stored and as they will be.
SELECT
    least(first_ns, (SELECT min(at_ns) FROM changed)),
    greatest(last_ns, (SELECT max(at_ns) FROM changed))
FROM (
    SELECT min(first_ns) AS first_ns, max(last_ns) AS last_ns
    FROM turn_facts
    SEMI JOIN touched_turns USING (turn_id)
);
