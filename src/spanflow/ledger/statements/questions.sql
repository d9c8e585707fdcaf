-- What was asked in the touched engagements.
SELECT turn_id, rowid, interrupt_id, kind, asked_ns
FROM wait_facts
SEMI JOIN touched_engagements USING (engagement_id)
ORDER BY turn_id, asked_ns, interrupt_id, span_id, trace_id;
