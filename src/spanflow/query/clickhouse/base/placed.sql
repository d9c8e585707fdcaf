-- Every run of a step with its path, the steps around it, and the run of the same execution before it: the latest that had
-- ended by then; where clocks disagree, the first.
SELECT
    engagement_id,
    r.1 AS turn_id,
    r.2 AS span_id,
    r.3 AS path,
    r.4 AS around,
    r.5 AS attempts,
    r.6 AS at_ns,
    r.7 AS before,
    r.8 AS is_fork
FROM (
    SELECT
        engagement_id,
        arrayFlatten(
            arrayMap(
                (t, first, steps_of_turn) -> arrayMap(
                    s -> (concat(first, '/', s.execution_id), s, t.turn_id),
                    arraySort(s -> (s.at_ns, s.span_id), arrayFilter(s -> s.execution_id != '', steps_of_turn))
                ),
                every_turn,
                firsts,
                every_steps
            )
        ) AS executions,
        arrayMap(e -> e.1, executions) AS names,
        arrayFlatten(
            arrayMap(
                (t, first, steps_of_turn) -> arrayMap(
                    s -> (
                        t.turn_id,
                        s.span_id,
                        s.path,
                        -- As many as its path is deep.
                        arrayFilter(
                            a -> a != '',
                            arrayFold(
                                (up, n) -> arrayPushBack(
                                    up, steps_of_turn[arrayFirstIndex(o -> o.span_id = up[-1], steps_of_turn)].parent_step_id
                                ),
                                range(toUInt64(depth_of(s.path))),
                                [s.span_id]
                            )
                        ),
                        ifNull(s.attempts, 1),
                        s.at_ns,
                        if(
                            s.execution_id = '' OR countEqual(names, concat(first, '/', s.execution_id)) < 2,
                            ('', '', '', toInt64(0), false),
                            -- Status, turn, span and attempts of the run before, and whether that was over.
                            arrayMap(
                                earlier -> if(
                                    empty(earlier),
                                    ('', '', '', toInt64(0), false),
                                    arrayMap(
                                        e -> (
                                            e.2.status, e.3, e.2.span_id, ifNull(e.2.attempts, 1), e.2.ended_ns <= s.at_ns
                                        ),
                                        [
                                            if(
                                                arrayExists(e -> e.2.ended_ns <= s.at_ns, earlier),
                                                arrayLast(e -> e.2.ended_ns <= s.at_ns, earlier),
                                                earlier[1]
                                            )
                                        ]
                                    )[1]
                                ),
                                [
                                    arrayFilter(
                                        (e, n) -> e.1 = concat(first, '/', s.execution_id)
                                        AND n < arrayFirstIndex(
                                            o -> o.2.span_id = s.span_id AND o.3 = t.turn_id, executions
                                        ),
                                        executions,
                                        arrayEnumerate(executions)
                                    )
                                ]
                            )[1]
                        ),
                        ifNull(t.kind, '') = 'fork'
                    ),
                    steps_of_turn
                ),
                every_turn,
                firsts,
                every_steps
            )
        ) AS rs
    FROM engaged
)
ARRAY JOIN rs AS r
