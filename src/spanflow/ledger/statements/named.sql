-- What belongs to the user or the engagement in `wanted`, whatever its status; the other of the two is null there.
CREATE OR REPLACE TEMP TABLE gone_engagements AS
SELECT engagement_id
FROM (
    SELECT engagement_id, user_id FROM turn_facts
    UNION ALL
    SELECT engagement_id, user_id FROM records
    UNION ALL
    SELECT engagement_id, user_id FROM partials
)
WHERE engagement_id IS NOT NULL
AND (user_id = (SELECT user_id FROM wanted) OR engagement_id = (SELECT engagement_id FROM wanted))
GROUP BY engagement_id;

CREATE OR REPLACE TEMP TABLE gone_turns AS
SELECT turn_id
FROM turn_facts
WHERE engagement_id IN (SELECT engagement_id FROM gone_engagements)
OR (engagement_id IS NULL AND user_id = (SELECT user_id FROM wanted))
UNION
SELECT turn_id
FROM records
WHERE engagement_id IS NULL AND turn_id IS NOT NULL AND user_id = (SELECT user_id FROM wanted);

-- Calls outside an engagement that name the user, and what was called within them without a name.
CREATE OR REPLACE TEMP TABLE gone_spans AS
WITH RECURSIVE
alone AS NOT MATERIALIZED (
    SELECT trace_id, span_id, parent_span_id, user_id
    FROM records
    WHERE engagement_id IS NULL AND turn_id IS NULL
),
under AS (
    SELECT trace_id, span_id FROM alone WHERE user_id = (SELECT user_id FROM wanted)
    UNION
    SELECT a.trace_id, a.span_id
    FROM under u
    JOIN alone a ON a.trace_id = u.trace_id AND a.parent_span_id = u.span_id
    WHERE a.user_id IS NULL
)
SELECT concat(trace_id, '/', span_id) AS span FROM under;
