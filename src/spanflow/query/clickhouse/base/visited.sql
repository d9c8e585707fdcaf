-- The chosen engagements, each with the visits of its steps. A step that paused and was taken up again in the same chain is
-- visited once. Sums of a visit are whole; it works until the instant at most.
SELECT
    *,
    -- A step's run is of a visit with others where it has an execution, in a chain of several turns.
    arrayFlatten(
        arrayMap(
            (t, first, steps_of_turn) -> arrayMap(
                s -> CAST(
                    (
                        if(
                            s.execution_id != '' AND countEqual(all_firsts, first) > 1,
                            concat(first, '/', s.execution_id, '/', s.path),
                            ''
                        ),
                        t.turn_id, t.trace_id, t.started_ns, s.span_id, s.parent_step_id, s.path, s.superstep, s.at_ns,
                        if(s.ended_ns <= {horizon_ns:Int64}, toNullable(s.ended_ns), NULL),
                        if(s.ended_ns <= {horizon_ns:Int64}, s.status, 'running'),
                        ifNull(s.attempts, 1), s.llm_calls, s.tool_calls, s.input_tokens, s.output_tokens, s.total_tokens,
                        s.cost_usd, s.calls_without_usage, s.unpriced_calls
                    ),
                    'Tuple(
                        same String, turn_id String, trace_id String, turn_ns Int64, step_id String,
                        parent_step_id String, path String,
                        superstep Nullable(Int64), at_ns Int64, over_ns Nullable(Int64), status String,
                        attempts Int64, llm_calls Int64, tool_calls Int64, input_tokens Nullable(Int64),
                        output_tokens Nullable(Int64), total_tokens Nullable(Int64), cost_usd Nullable(Float64),
                        calls_without_usage Int64, unpriced_calls Int64
                    )'
                ),
                arrayFilter(s -> s.at_ns <= {horizon_ns:Int64}, steps_of_turn)
            ),
            all_turns,
            all_firsts,
            all_steps
        )
    ) AS runs,
    arrayConcat(
        arrayMap(r -> [r], arrayFilter(r -> r.same = '', runs)),
        arrayMap(
            same -> arraySort(r -> (r.at_ns, r.step_id), arrayFilter(r -> r.same = same, runs)),
            arrayDistinct(arrayMap(r -> r.same, arrayFilter(r -> r.same != '', runs)))
        )
    ) AS taken,
    arrayMap(
        rs -> CAST(
            (
                rs[1].path, rs[1].turn_ns, rs[1].superstep, rs[1].at_ns, rs[1].parent_step_id,
                rs[-1].turn_id, rs[-1].trace_id, rs[-1].step_id, rs[-1].status,
                total_of(arrayMap(r -> (r.over_ns - r.at_ns) / 1e6, rs)),
                length(rs), arraySum(r -> r.attempts, rs),
                arraySum(r -> r.llm_calls, rs), arraySum(r -> r.tool_calls, rs),
                spent_in(arrayMap(r -> r.input_tokens, rs), arrayMap(r -> r.llm_calls, rs)),
                spent_in(arrayMap(r -> r.output_tokens, rs), arrayMap(r -> r.llm_calls, rs)),
                spent_in(arrayMap(r -> r.total_tokens, rs), arrayMap(r -> r.llm_calls, rs)),
                spent_in(arrayMap(r -> r.cost_usd, rs), arrayMap(r -> r.llm_calls, rs)),
                arraySum(r -> r.calls_without_usage, rs), arraySum(r -> r.unpriced_calls, rs)
            ),
            'Tuple(
                path String, turn_ns Int64, superstep Nullable(Int64), at_ns Int64, parent_step_id String, turn_id String,
                trace_id String, step_id String, status String, working_ms Nullable(Float64), executions Int64,
                attempts Int64, llm_calls Int64, tool_calls Int64, input_tokens Nullable(Int64),
                output_tokens Nullable(Int64), total_tokens Nullable(Int64), cost_usd Nullable(Float64),
                calls_without_usage Int64, unpriced_calls Int64
            )'
        ),
        taken
    ) AS visits
FROM chosen
