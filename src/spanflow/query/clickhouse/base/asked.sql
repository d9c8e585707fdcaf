-- The same, with what each turn asked of people, in order. A run may fail beside a question, which stays; one that completed
-- had it handed back. Only the innermost step that waits was told the question; where nobody told one, each such step asks
-- one without a name.
SELECT
    *,
    arrayMap(
        (t, steps_of_turn) -> if(
            ifNull(t.outcome, 'completed') = 'completed',
            [],
            arrayConcat(
                arrayFlatten(
                    arrayMap(
                        s -> arrayMap(
                            a -> (s.span_id, if(s.execution_id = '', '', a.id), a.id, true, s.path, s.ended_ns, a.at_ns),
                            s.asked
                        ),
                        steps_of_turn
                    )
                ),
                arrayMap(
                    b -> (
                        t.turn_id,
                        JSONExtractString(b.payload, 'id'),
                        JSONExtractString(b.payload, 'id'),
                        JSONExtractString(b.payload, 'at') NOT IN ('before', 'after'),
                        JSONExtractString(b.payload, 'step'),
                        ifNull(t.ended_ns, 0),
                        b.at_ns
                    ),
                    t.breaks
                ),
                if(
                    t.outcome = 'paused' AND empty(t.breaks) AND NOT arrayExists(s -> notEmpty(s.asked), steps_of_turn),
                    arrayMap(
                        s -> (s.span_id, '', '', true, s.path, s.ended_ns, toInt64(0)),
                        arrayFilter(
                            s -> s.status = 'waiting' AND NOT arrayExists(
                                i -> i.status = 'waiting' AND i.parent_step_id = s.span_id, steps_of_turn
                            ),
                            steps_of_turn
                        )
                    ),
                    []
                )
            )
        ),
        all_turns,
        all_steps
    ) AS told,
    -- One step tells a question once, however often it was told of it.
    arrayMap(
        qs -> arraySort(
            q -> (q.asked_ns, q.id = '', q.id, q.span_id),
            arrayMap(
                q -> CAST(
                    (q.1, q.2, q.4, q.5, q.6),
                    a_question
                ),
                arrayFilter((q, n) -> n = arrayFirstIndex(p -> p.1 = q.1 AND p.3 = q.3, qs), qs, arrayEnumerate(qs))
            )
        ),
        arrayMap(qs -> arraySort(q -> q.7, qs), told)
    ) AS questions
FROM visited
