-- What has ended and was last seen before @cutoff (nanoseconds), as the ledger stands at @instant: `gone_engagements`,
-- `gone_turns` that name no engagement, and `gone_traces` of calls outside both. What tells no time is not known to be
-- old.
CREATE OR REPLACE TEMP TABLE gone_engagements AS
SELECT e.engagement_id
FROM engagements(as_of := @instant) e
JOIN (
    -- Turns that began after the instant count too: who came back since has not ended.
    SELECT engagement_id, max(greatest(last_ns, coalesce(ended_ns, 0))) AS seen_ns
    FROM turn_facts
    GROUP BY engagement_id
) l ON l.engagement_id = e.engagement_id
WHERE e.status NOT IN ('active', 'paused') AND l.seen_ns BETWEEN 1 AND @cutoff - 1
UNION
SELECT engagement_id
FROM records
WHERE engagement_id IS NOT NULL AND engagement_id NOT IN (
    SELECT engagement_id FROM turn_facts WHERE engagement_id IS NOT NULL
)
GROUP BY engagement_id
HAVING max(greatest(at_ns, coalesce(ended_ns, 0))) BETWEEN 1 AND @cutoff - 1;

CREATE OR REPLACE TEMP TABLE gone_turns AS
SELECT turn_id
FROM turn_facts
WHERE engagement_id IN (FROM gone_engagements)
OR (engagement_id IS NULL AND last_ns BETWEEN 1 AND @cutoff - 1);

-- Calls outside an engagement are judged by trace, so they go by trace.
CREATE OR REPLACE TEMP TABLE gone_traces AS
SELECT trace_id
FROM records
WHERE engagement_id IS NULL AND turn_id IS NULL
GROUP BY trace_id
HAVING max(greatest(at_ns, coalesce(ended_ns, 0))) BETWEEN 1 AND @cutoff - 1;
