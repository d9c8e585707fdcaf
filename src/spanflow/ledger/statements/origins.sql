-- Which step wrote the checkpoint that each fork of the touched engagements left from: of the last superstep's, the last.
UPDATE turn_facts
SET origin_step_id = n.step_id
FROM (
    SELECT f.rowid AS row_id, any_value(f.origin_step_id) AS stored_id, arg_max(s.span_id, row(s.over_ns, s.span_id)) AS step_id
    FROM turn_facts f
    SEMI JOIN touched_engagements USING (engagement_id)
    LEFT JOIN turn_facts o ON o.turn_id = f.origin_turn_id AND o.engagement_id = f.engagement_id
    LEFT JOIN (
        SELECT turn_id, superstep, span_id, coalesce(ended_ns, at_ns) AS over_ns
        FROM records
        WHERE kind = 'step' AND parent_step_id IS NULL AND at_ns BETWEEN @low AND @high
    ) s ON s.turn_id = o.turn_id AND s.superstep = f.origin_superstep
    WHERE f.origin_turn_id IS NOT NULL
    GROUP BY f.rowid
) n
WHERE turn_facts.rowid = n.row_id AND n.step_id IS DISTINCT FROM n.stored_id;
