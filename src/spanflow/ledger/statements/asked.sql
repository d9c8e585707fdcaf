-- What the touched turns paused for. Only the innermost step that waits was told the question; a step that waits and was
-- told of none asks a question without a name, unless the turn knows better.
DELETE FROM wait_facts WHERE turn_id IN (FROM touched_turns);

INSERT INTO wait_facts BY NAME
WITH RECURSIVE
waiting AS (
    SELECT r.*, f.engagement_id AS of_engagement, f.ended_ns AS paused_ns, f.has_paused
    FROM (
        SELECT
            turn_id, trace_id, span_id, kind, name, path, parent_step_id, ended_ns, at_ns,
            -- Records of before executions were told name questions whose answers do not name them.
            kind = 'turn' OR execution_id IS NOT NULL AS is_named,
            if(kind = 'step', span_id, NULL) AS step_id,
            list_filter(event_list(events), lambda event: event.kind = 'wait') AS asked
        FROM records
        WHERE at_ns BETWEEN @low AND @high
        AND ((kind = 'step' AND status = 'waiting') OR (kind = 'turn' AND events IS NOT NULL))
    ) r
    JOIN (
        SELECT turn_id, engagement_id, ended_ns, outcome = 'paused' AS has_paused
        FROM turn_facts
        SEMI JOIN touched_turns USING (turn_id)
        -- A run may fail beside a question, which stays. One that completed had its question handed back.
        WHERE outcome <> 'completed' AND engagement_id IS NOT NULL
    ) f ON f.turn_id = r.turn_id
),
questions AS (
    SELECT *, if(is_named, nullif(json_extract_string(event.payload, '$.id'), ''), NULL) AS interrupt_id
    FROM (SELECT *, unnest(asked) AS event FROM waiting)
    UNION ALL
    SELECT *, NULL, NULL
    FROM waiting
    WHERE kind = 'step'
    AND has_paused
    AND coalesce(len(asked), 0) = 0
    AND turn_id NOT IN (SELECT turn_id FROM waiting WHERE len(asked) > 0)
    AND (turn_id, span_id) NOT IN (SELECT (turn_id, parent_step_id) FROM waiting WHERE parent_step_id IS NOT NULL)
),
-- UNION forgets repetitions, so a circle of parents ends.
up AS (
    SELECT turn_id, span_id AS step_id, span_id AS around_id FROM waiting WHERE kind = 'step'
    UNION
    SELECT u.turn_id, u.step_id, w.parent_step_id
    FROM up u
    JOIN waiting w ON w.turn_id = u.turn_id AND w.span_id = u.around_id
    WHERE w.parent_step_id IS NOT NULL
),
chains AS (SELECT turn_id, step_id, list(around_id ORDER BY around_id) AS around FROM up GROUP BY ALL),
told AS (
    SELECT
        q.*,
        coalesce(CASE WHEN q.kind = 'turn' THEN json_extract_string(event.payload, '$.at') END, 'interrupt') AS manner,
        json_extract_string(event.payload, '$.step') AS at_step
    FROM questions q
)
SELECT
    q.of_engagement AS engagement_id,
    q.turn_id,
    q.trace_id,
    q.span_id,
    q.interrupt_id,
    if(q.manner IN ('before', 'after'), q.manner, 'interrupt') AS kind,
    coalesce(q.step_id, json_extract_string(q.event.payload, '$.step_id')) AS step_id,
    if(q.kind = 'turn', list_last(string_split(q.at_step, '/')), q.name) AS step_name,
    if(q.kind = 'turn', q.at_step, coalesce(q.path, q.name)) AS path,
    c.around,
    coalesce(
        json_extract_string(q.event.payload, '$.awaiting'),
        CASE WHEN json_type(q.event.payload, '$.payload.awaiting') = 'VARCHAR'
            THEN json_extract_string(q.event.payload, '$.payload.awaiting') END,
        nullif(q.event.name, 'wait')
    ) AS label,
    nullif(json_extract(q.event.payload, '$.payload')::VARCHAR, 'null')::JSON AS payload,
    coalesce(q.ended_ns, q.paused_ns, q.at_ns) AS asked_ns,
    q.at_ns,
    -- What became of it is told when the turns after it are known.
    true AS is_first
FROM told q
LEFT JOIN chains c ON c.turn_id = q.turn_id AND c.step_id = q.step_id
-- One step tells a question once, however often it was told of it.
QUALIFY row_number() OVER (PARTITION BY q.turn_id, q.span_id, coalesce(q.interrupt_id, json_extract_string(q.event.payload, '$.id')) ORDER BY q.trace_id, q.event.at_ns) = 1;
