-- The same, with every question and when it was answered: by the first later resumption on its thread that names its id,
-- or that names none while it is the only one open; a breakpoint, or a question without a name, by going on. What is asked
-- again is no new question, and an answer that it had did not take. A turn that begins with something new gives up what is
-- open. Plain code, which has no thread, speaks with every thread, and answers all that is open.
SELECT
    *,
    -- A service on a thread of its own is nobody else's business, and of a turn whose own span is missing nobody knows.
    arrayMap(
        (t, thread) -> ifNull(t.kind, '') = '' OR (t.kind = 'remote' AND thread != ''), all_turns, threads
    ) AS apart,
    if(
        arrayExists(qs -> notEmpty(qs), questions),
        arrayFold(
            (open, m) -> if(
                m.is_start,
                -- A turn begins: what it answers, and what nobody waits for any more.
                arrayMap(
                    w -> if(
                        w.by_turn = 0 AND (
                            threads[w.asked_by] = threads[m.turn] OR (
                                (threads[w.asked_by] = '' OR threads[m.turn] = '')
                                AND NOT apart[w.asked_by] AND NOT apart[m.turn]
                            )
                        ) AND multiIf(
                            ifNull(all_turns[m.turn].kind, '') = 'remote' AND empty(all_turns[m.turn].answers),
                            isNotNull(all_turns[m.turn].conversation_id),
                            ifNull(all_turns[m.turn].kind, '') NOT IN ('resume', 'retry', 'remote'), true,
                            ifNull(all_turns[m.turn].outcome, '') = 'failed' AND all_turns[m.turn].steps = 0, false,
                            NOT w.is_interrupt OR w.id = '', true,
                            has(all_turns[m.turn].answers, '*') AND (
                                threads[m.turn] = '' OR threads[w.asked_by] != threads[m.turn] OR arrayCount(
                                    o -> o.by_turn = 0 AND o.is_interrupt AND o.id != ''
                                    AND threads[o.asked_by] = threads[m.turn],
                                    open
                                ) = 1
                            ), true,
                            NOT has(all_turns[m.turn].answers, '*') AND has(all_turns[m.turn].answers, w.id), true,
                            ifNull(all_turns[m.turn].outcome, '') = 'completed', true,
                            ifNull(all_turns[m.turn].outcome, '') = 'paused' AND notEmpty(questions[m.turn])
                            AND NOT arrayExists(q -> q.id = w.id, questions[m.turn])
                        ),
                        CAST(
                            (
                                w.id, w.is_interrupt, w.first, w.path, w.asked_ns, m.turn, m.at_ns,
                                ifNull(all_turns[m.turn].ended_ns, 0), w.asked_by
                            ),
                            a_wait
                        ),
                        w
                    ),
                    open
                ),
                -- A turn asks: something new, something open, or something whose answer did not take; but what a
                -- turn asks that ran beside the one that answered says nothing.
                if(
                    m.question.id != '' AND arrayExists(
                        w -> w.id = m.question.id AND threads[w.asked_by] = threads[m.turn] AND (
                            w.by_turn = 0 OR (m.question.is_interrupt AND w.first = all_firsts[m.turn])
                        ),
                        open
                    ),
                    if(
                        arrayExists(
                            w -> w.by_turn = 0 AND w.id = m.question.id AND threads[w.asked_by] = threads[m.turn], open
                        ),
                        open,
                        arrayMap(
                            w -> if(
                                w.id = m.question.id AND w.first = all_firsts[m.turn] AND NOT (
                                    w.by_turn != m.turn AND w.by_ended_ns > all_turns[m.turn].started_ns
                                ),
                                CAST((w.id, w.is_interrupt, w.first, w.path, w.asked_ns, 0, 0, 0, w.asked_by), a_wait),
                                w
                            ),
                            open
                        )
                    ),
                    arrayPushBack(
                        open,
                        CAST(
                            (
                                m.question.id, m.question.is_interrupt, all_firsts[m.turn], m.question.path,
                                m.question.asked_ns, 0, 0, 0, m.turn
                            ),
                            a_wait
                        )
                    )
                )
            ),
            -- A question before a turn that begins at once.
            arraySort(
                m -> (m.at_ns, m.is_start, m.turn, m.nth),
                arrayFlatten(
                    arrayMap(
                        n -> arrayPushFront(
                            arrayMap(
                                (q, nth) -> CAST((q.asked_ns, false, n, nth, q), a_moment),
                                questions[n],
                                arrayEnumerate(questions[n])
                            ),
                            CAST((all_turns[n].started_ns, true, n, 0, ('', '', true, '', 0)), a_moment)
                        ),
                        arrayEnumerate(all_turns)
                    )
                )
            ),
            CAST([], concat('Array(', a_wait, ')'))
        ),
        []
    ) AS every_wait,
    arrayMap(
        w -> CAST(
            (
                w.path,
                w.by_turn = 0 OR w.answered_ns > {horizon_ns:Int64},
                if(
                    w.by_turn = 0 OR w.answered_ns > {horizon_ns:Int64},
                    NULL,
                    greatest(w.answered_ns - w.asked_ns, 0) / 1e6
                )
            ),
            'Tuple(path String, is_open UInt8, waited_ms Nullable(Float64))'
        ),
        arrayFilter(w -> w.asked_ns <= {horizon_ns:Int64}, every_wait)
    ) AS waits
FROM asked
