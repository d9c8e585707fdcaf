-- Write what became of questions (`settled`) and answers (`resolved`).
UPDATE wait_facts
SET
    is_first = s.is_first,
    answered_turn_id = s.answered_turn_id,
    answered_ns = s.answered_ns,
    resolution = s.resolution
FROM settled s
WHERE wait_facts.rowid = s.row_id
AND row(
    wait_facts.is_first, wait_facts.answered_turn_id, wait_facts.answered_ns, wait_facts.resolution
) IS DISTINCT FROM row(s.is_first, s.answered_turn_id, s.answered_ns, s.resolution);

UPDATE turn_facts
SET resolved = n.resolved
FROM (
    SELECT f.rowid AS row_id, r.resolved
    FROM turn_facts f
    SEMI JOIN touched_engagements USING (engagement_id)
    LEFT JOIN resolved r ON r.turn_id = f.turn_id
    WHERE f.resolved IS DISTINCT FROM r.resolved
) n
WHERE turn_facts.rowid = n.row_id;
