-- The turns of those touched engagements in which anything was asked or answered.
SELECT
    f.engagement_id,
    f.turn_id,
    coalesce(f.chain_id, f.turn_id),
    -- A service that is called again on its thread answers, or begins something new; without one it does neither.
    CASE
        WHEN f.turn_kind = 'remote' AND f.answers IS NOT NULL THEN 'resume'
        WHEN f.turn_kind = 'remote' AND f.conversation_id IS NOT NULL THEN 'message'
        ELSE f.turn_kind
    END,
    CASE WHEN NOT f.is_open THEN f.outcome WHEN f.process_id IN (SELECT process_id FROM processes) THEN 'interrupted' END,
    f.started_ns,
    f.steps,
    f.answers,
    f.resolution,
    f.ended_ns,
    f.conversation_id,
    -- A service on a thread of its own is nobody else's business, and of a turn whose own record is missing nobody knows.
    f.turn_kind IS NULL OR (f.turn_kind = 'remote' AND f.conversation_id IS NOT NULL)
FROM turn_facts f
SEMI JOIN touched_engagements t ON t.engagement_id = f.engagement_id
WHERE f.engagement_id IN (
    SELECT engagement_id FROM wait_facts SEMI JOIN touched_engagements USING (engagement_id)
    UNION ALL
    SELECT engagement_id
    FROM turn_facts
    SEMI JOIN touched_engagements USING (engagement_id)
    WHERE answers IS NOT NULL OR resolved IS NOT NULL
)
ORDER BY f.engagement_id, f.started_ns, f.turn_id;
