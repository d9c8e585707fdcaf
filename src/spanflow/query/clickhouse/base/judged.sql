-- The calls of models of one turn, or of one trace where there is no turn: how many its own span told of, and which are
-- calls inside another call, seen from further inside. Where the numbers agree, every call counts.
SELECT
    *,
    length(mine) > 1 AND ifNull(length(mine) > told_calls, true) AS is_open_question,
    if(
        is_open_question,
        arrayMap(
            -- The nearest call around it. A circle of parents ends, too.
            c -> arrayFold(
                (around, n) -> if(
                    around = '' OR has(call_ids, around), around, parents[indexOf(span_ids, around)]
                ),
                range(64),
                c.parent_span_id
            ),
            mine
        ),
        arrayMap(c -> '', mine)
    ) AS arounds,
    arrayMap(
        c -> c.span_id, arrayFilter((c, around) -> has(call_ids, around) AND around != c.span_id, mine, arounds)
    ) AS nested,
    arrayFilter(c -> NOT has(nested, c.span_id), mine) AS outer_ones,
    arrayUniq(arrayMap(c -> c.scope, outer_ones)) AS scopes,
    -- A call that tells no usage around one that does stands back for it.
    arrayExists((c, around) -> has(call_ids, around) AND NOT mine[indexOf(call_ids, around)].is_known, mine, arounds)
        AS is_told_inside
FROM (
    SELECT
        grp,
        groupUniqArrayIf(
            CAST(
                (span_id, parent_span_id, scope, is_known),
                'Tuple(span_id String, parent_span_id String, scope String, is_known UInt8)'
            ),
            what = 'call'
        ) AS mine,
        arrayMap(c -> c.span_id, mine) AS call_ids,
        groupUniqArrayIf((span_id, parent_span_id), what = 'span') AS spans_between,
        arrayMap(s -> s.1, spans_between) AS span_ids,
        arrayMap(s -> s.2, spans_between) AS parents,
        anyIf(told, what = 'turn') AS told_calls
    FROM (
        SELECT 'call' AS what, grp, span_id, parent_span_id, scope, is_known, CAST(NULL, 'Nullable(Int64)') AS told
        FROM calls
        WHERE NOT is_tool
        UNION ALL
        SELECT
            if(is_turn, 'turn', 'span'),
            turn_id,
            toString(SpanId),
            toString(ParentSpanId),
            '',
            false,
            if(is_turn, toNullable(toInt64OrZero(SpanAttributes['spanflow.usage.llm_calls'])), NULL)
        FROM spans
        WHERE turn_id != ''
        UNION ALL
        -- What lies between calls outside of any turn.
        SELECT 'span', TraceId, SpanId, ParentSpanId, '', false, NULL
        FROM {database:Identifier}.{table:Identifier}
        WHERE TraceId IN (SELECT trace_id FROM calls WHERE turn_id = '' AND NOT is_tool GROUP BY trace_id HAVING count() > 1)
    )
    GROUP BY grp
)
