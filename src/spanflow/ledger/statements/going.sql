-- How many rows are gone, and the revision they were in.
SELECT count(*), (SELECT revision FROM meta)
FROM records
WHERE engagement_id IN (SELECT id FROM gone_engagements)
OR turn_id IN (SELECT id FROM gone_turns)
OR (
    engagement_id IS NULL AND turn_id IS NULL
    AND (
        trace_id IN (SELECT id FROM gone_traces)
        OR concat(trace_id, '/', span_id) IN (SELECT id FROM gone_spans)
    )
);
