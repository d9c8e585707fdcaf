-- One row an engagement as it was at an instant: the columns, statuses and rules of the ledger's view, and what the
-- questions need of its turns. Of a turn whose own span never came nobody knows more than its silence.
SELECT
    engagement_id,
    begun,
    every_turn AS all_turns,
    every_steps AS all_steps,
    firsts AS all_firsts,
    threads,
    -- A turn without a step leaves it where it stood before.
    arrayLast(
        x -> isNotNull(x),
        arrayMap(
            t -> t.place,
            arrayFilter(t -> ifNull(t.kind, '') != 'remote' OR ifNull(last_turn.kind, '') = 'remote', ranked)
        )
    ) AS last_step,
    arrayLast(x -> isNotNull(x), arrayMap(t -> t.name, ranked)) AS name,
    arrayLast(x -> isNotNull(x), arrayMap(t -> t.user_id, ranked)) AS user_id,
    arrayLast(x -> isNotNull(x), arrayMap(t -> t.session_id, ranked)) AS session_id,
    arrayLast(x -> isNotNull(x), arrayMap(t -> t.conversation_id, ranked)) AS conversation_id,
    arrayLast(x -> isNotNull(x), arrayMap(t -> t.graph_version, ranked)) AS graph_version,
    arrayLast(x -> isNotNull(x), arrayMap(t -> t.metadata, ranked)) AS metadata,
    arrayLast(x -> x != '', arrayMap(t -> t.service_name, ranked)) AS service_name,
    begun[1].started_ns AS started_ns,
    arrayMax(t -> least(t.last_ns, {instant_ns:Int64}), begun) AS last_seen_ns,
    intDiv(last_seen_ns, 1000) + {idle_after_us:Int64} < intDiv({instant_ns:Int64}, 1000) AS is_idle,
    if(last_turn.is_open, toNullable('interrupted'), last_turn.outcome) AS last_outcome,
    if(ifNull(last_turn.ended_ns <= {instant_ns:Int64}, false), last_turn.mark, NULL) AS last_mark,
    multiIf(
        arrayExists(t -> ifNull(t.ended_ns > {instant_ns:Int64}, false), begun), 'active',
        arrayExists(t -> t.is_open, begun) AND NOT is_idle, 'active',
        arrayExists(t -> ifNull(t.goal_ns <= {instant_ns:Int64}, false), begun), 'completed',
        last_outcome = 'failed', 'failed',
        last_outcome = 'interrupted', 'interrupted',
        isNotNull(last_mark), 'abandoned',
        last_outcome = 'paused', if(is_idle, 'abandoned', 'paused'),
        arrayExists(
            t -> t.has_goals AND (ifNull(t.kind, '') != 'remote' OR ifNull(last_turn.kind, '') = 'remote'), begun
        ) OR ifNull(last_outcome IN ('cancelled', 'left'), false),
        if(last_turn.on_thread AND NOT is_idle, 'active', 'abandoned'),
        'completed'
    ) AS status,
    multiIf(
        status != 'abandoned', NULL,
        isNotNull(last_mark), last_mark,
        last_outcome IN ('cancelled', 'left'), 'interrupted',
        'left'
    ) AS abandon_reason,
    if(status IN ('abandoned', 'failed', 'interrupted'), last_step, NULL) AS dropped_at,
    toInt64(length(begun)) AS turns,
    toInt64(arraySum(t -> t.steps, begun)) AS steps,
    arraySum(t -> t.llm_calls, begun) AS llm_calls,
    arraySum(t -> t.tool_calls, begun) AS tool_calls,
    spent_in(arrayMap(t -> t.total_tokens, begun), arrayMap(t -> t.llm_calls, begun)) AS total_tokens,
    spent_in(arrayMap(t -> t.cost_usd, begun), arrayMap(t -> t.llm_calls, begun)) AS cost_usd,
    -- When each turn was over, and when the last before it was; 0 where that was not yet.
    arrayMap(t -> if(ifNull(t.ended_ns <= {instant_ns:Int64}, false), assumeNotNull(t.ended_ns), 0), begun) AS overs,
    arrayMap(n -> arrayMax(arrayPushFront(arraySlice(overs, 1, n - 1), 0)), arrayEnumerate(begun)) AS befores,
    arraySum(
        (t, over, before) -> greatest(over - greatest(t.started_ns, before), 0), begun, overs, befores
    ) / 1e6 AS working_ms,
    -- What a service did for a turn never says that somebody waits.
    arrayMap(
        (t, over) -> if(ifNull(t.kind, '') = 'remote' AND ifNull(last_turn.kind, '') != 'remote', 0, over), begun, overs
    ) AS own_overs,
    -- Of turns that were over at once, the one that began last counts.
    arraySum(
        (t, before, n) -> if(
            before > 0
            AND ifNull(
                begun[
                    arrayLastIndex(
                        (o, m) -> m < n AND o > 0 AND o = arrayMax(arrayPushFront(arraySlice(own_overs, 1, n - 1), 0)),
                        own_overs,
                        arrayEnumerate(own_overs)
                    )
                ].outcome = 'paused',
                false
            ),
            greatest(t.started_ns - before, 0),
            0
        ),
        begun,
        befores,
        arrayEnumerate(begun)
    ) / 1e6 AS waiting_ms
FROM (
    SELECT
        *,
        arrayFilter(t -> t.started_ns <= {instant_ns:Int64}, every_turn) AS begun,
        -- What a service does for a turn is part of that turn, and the turn says how it went.
        arraySort(t -> (ifNull(t.kind, '') != 'remote', t.started_ns, t.turn_id), begun) AS ranked,
        ranked[-1] AS last_turn
    FROM engaged
    WHERE notEmpty(begun)
)
