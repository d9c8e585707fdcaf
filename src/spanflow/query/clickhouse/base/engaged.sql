-- One row an engagement: its turns in the order in which they began, each with the first turn of its chain. A chain is a
-- turn with the resumptions and retries that follow it on its thread.
SELECT
    engagement_id,
    every_turn,
    -- Apart from them, so that who does not ask for steps does not pay for them.
    every_steps,
    arrayMap(t -> ifNull(t.conversation_id, ''), every_turn) AS threads,
    arrayMap(
        t -> ifNull(t.kind, '') IN ('resume', 'retry') OR (ifNull(t.kind, '') = 'remote' AND notEmpty(t.answers)),
        every_turn
    ) AS goes_on,
    -- Most engagements have one turn, or none that goes on.
    if(
        length(every_turn) = 1 OR NOT arrayExists(g -> g, goes_on),
        arrayMap(t -> t.turn_id, every_turn),
        arrayMap(
            (thread, n) -> (
                every_turn[
                    -- The last before it that begins anew, else the first of all.
                    arrayMap(
                        at -> if(at > 0, at, arrayFirstIndex(o -> o = thread, threads)),
                        [
                            arrayLastIndex(
                                (o, g, m) -> o = thread AND NOT g AND m <= n, threads, goes_on, arrayEnumerate(every_turn)
                            )
                        ]
                    )[1]
                ]
            ).turn_id,
            threads,
            arrayEnumerate(every_turn)
        )
    ) AS firsts
FROM (
    SELECT
        engagement_id,
        arraySort(
            t -> (t.started_ns, t.turn_id),
            groupArray(
                CAST(
                    (
                        turn_id, trace_id, is_open, started_ns, ended_ns, last_ns, outcome, kind, on_thread, has_goals,
                        goal_ns, mark, place, name, user_id, session_id, conversation_id, service_name, graph_version,
                        metadata, resolution, answers, llm_calls, tool_calls, total_tokens, cost_usd, breaks, length(steps)
                    ),
                    'Tuple(
                        turn_id String, trace_id String, is_open UInt8, started_ns Int64, ended_ns Nullable(Int64),
                        last_ns Int64, outcome Nullable(String), kind Nullable(String), on_thread UInt8, has_goals UInt8,
                        goal_ns Nullable(Int64), mark Nullable(String), place Nullable(String), name Nullable(String),
                        user_id Nullable(String), session_id Nullable(String), conversation_id Nullable(String),
                        service_name String, graph_version Nullable(String), metadata Nullable(String),
                        resolution Nullable(String), answers Array(String), llm_calls Int64, tool_calls Int64,
                        total_tokens Nullable(Int64), cost_usd Nullable(Float64),
                        breaks Array(Tuple(kind String, name String, payload String, at_ns Int64)),
                        steps Int64
                    )'
                )
            )
        ) AS every_turn,
        arraySort((s, key) -> key, groupArray(steps), groupArray((started_ns, turn_id))) AS every_steps
    FROM turns
    GROUP BY engagement_id
)
