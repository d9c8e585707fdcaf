-- `joined_turns`: the turns whose rows say more than of one turn alone, or no longer do: those of a chain that changed,
-- forks, and turns with calls made again. A chain is a turn with the resumptions and retries that follow it on its thread:
-- an engagement may have several.
CREATE OR REPLACE TEMP TABLE their_turns AS
SELECT
    engagement_id, conversation_id, turn_id, started_ns, first_ns, last_ns, turn_kind, outcome, chain_id, origin_turn_id,
    coalesce(turn_kind IN ('resume', 'retry') OR (turn_kind = 'remote' AND answers IS NOT NULL), false) AS goes_on,
    answers IS NOT NULL OR resolved IS NOT NULL AS answers,
    turn_id IN (FROM touched_turns) AS is_touched
FROM turn_facts
WHERE engagement_id IN (SELECT engagement_id FROM touched_engagements) OR turn_id IN (FROM touched_turns);

CREATE OR REPLACE TEMP TABLE chained AS
WITH
-- Most engagements have one turn, or none that goes on.
several AS (
    FROM their_turns
    SEMI JOIN (SELECT engagement_id FROM their_turns WHERE goes_on OR chain_id IS NOT NULL) USING (engagement_id)
),
headed AS (
    SELECT
        *,
        count(*) FILTER (NOT goes_on) OVER (
            PARTITION BY engagement_id, conversation_id ORDER BY started_ns, turn_id
        ) AS head
    FROM several
)
SELECT
    h.engagement_id,
    h.turn_id,
    first_value(h.turn_id) OVER chain AS first_id,
    if(count(*) OVER (PARTITION BY h.engagement_id, h.conversation_id, h.head) > 1, first_id, NULL) AS chain_id,
    row_number() OVER chain AS place,
    coalesce(h.chain_id, b.chain_id) AS before_id
FROM headed h
LEFT JOIN chains_before b ON b.turn_id = h.turn_id
WINDOW chain AS (PARTITION BY h.engagement_id, h.conversation_id, h.head ORDER BY h.started_ns, h.turn_id);

CREATE OR REPLACE TEMP TABLE joined_turns AS
WITH other_chains AS (
    SELECT unnest([first_id, before_id]) AS id
    FROM chained
    WHERE chain_id IS DISTINCT FROM before_id
    OR (chain_id IS NOT NULL AND turn_id IN (FROM touched_turns))
    UNION
    SELECT chain_id FROM chains_before
),
joined AS (
    SELECT turn_id, first_id, place
    FROM chained
    WHERE first_id IN (SELECT id FROM other_chains WHERE id IS NOT NULL)
    UNION ALL
    SELECT turn_id, turn_id, 1
    FROM (
        SELECT turn_id
        FROM records
        SEMI JOIN touched_turns USING (turn_id)
        WHERE at_ns BETWEEN @low AND @high AND (attempt > 1 OR @rejoined)
        UNION
        SELECT turn_id FROM their_turns WHERE is_touched AND turn_kind = 'fork'
    )
)
SELECT
    j.turn_id,
    min_by(j.first_id, -j.place) AS first_id,
    max(j.place) AS place,
    any_value(c.chain_id) AS chain_id,
    any_value(f.turn_kind) IS NOT DISTINCT FROM 'fork' AS is_fork,
    any_value(f.first_ns) AS first_ns,
    any_value(f.last_ns) AS last_ns
FROM joined j
JOIN their_turns f ON f.turn_id = j.turn_id
LEFT JOIN chained c ON c.turn_id = j.turn_id
GROUP BY j.turn_id;
