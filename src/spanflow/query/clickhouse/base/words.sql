-- Words that relations and questions are written in; they live in one query, and nothing is made in the database.

-- An attribute of a span, null where it has none.
k -> if(mapContains(SpanAttributes, k), SpanAttributes[k], NULL) AS attr,
-- A number of a place, as its span told it when it ended: 0 where it told no call, null where it did not know.
(told, k) -> if(ifNull(toInt64OrZero(told['spanflow.usage.llm_calls']), 0) = 0, 0, toInt64OrNull(told[k])) AS spent,
told -> if(
    toInt64OrZero(told['spanflow.usage.llm_calls']) = 0, 0, toFloat64OrNull(told['spanflow.usage.cost_usd'])
) AS spent_usd,
xs -> arrayFilter(x -> isNotNull(x), xs) AS known,
-- Sums skip null, and of nothing known nothing is known.
xs -> if(empty(known(xs)), NULL, arraySum(x -> assumeNotNull(x), known(xs))) AS total_of,
-- A sum over places: 0 where no place has calls, else of those that have.
(xs, calls) -> if(
    arraySum(calls) = 0,
    0,
    if(
        empty(arrayFilter((x, c) -> c > 0 AND isNotNull(x), xs, calls)),
        NULL,
        arraySum(x -> assumeNotNull(x), arrayFilter((x, c) -> c > 0 AND isNotNull(x), xs, calls))
    )
) AS spent_in,
us -> fromUnixTimestamp64Micro(us, 'UTC') AS to_time,
path -> length(splitByChar('/', path)) AS depth_of,
-- Of some steps the innermost one, the last that began.
xs -> if(
    empty(xs), NULL, toNullable(arraySort(x -> (depth_of(x.path), x.at_ns, x.path), xs)[-1].path)
) AS innermost,
xs -> if(empty(xs), NULL, toNullable(arraySort(x -> (x.at_ns, x.path), xs)[-1].path)) AS latest
,
-- Whether a JSON object has some keys with the same types and values; numbers are compared as numbers.
(told, ks, kinds, vs) -> arrayAll(
    (k, kind, v) -> JSONHas(ifNull(told, ''), k) AND multiIf(
        kind = 'number',
        toString(JSONType(ifNull(told, ''), k)) IN ('Int64', 'UInt64', 'Double')
            AND JSONExtractFloat(ifNull(told, ''), k) = toFloat64OrZero(v),
        kind = 'text',
        toString(JSONType(ifNull(told, ''), k)) = 'String' AND JSONExtractString(ifNull(told, ''), k) = v,
        kind = 'bool',
        toString(JSONType(ifNull(told, ''), k)) = 'Bool' AND JSONExtractRaw(ifNull(told, ''), k) = v,
        toString(JSONType(ifNull(told, ''), k)) = 'Null'
    ),
    ks,
    kinds,
    vs
) AS has_metadata
,
-- The steps that were taken, in order: those at the top by turn and superstep, or the innermost ones by time.
(vs, rs, is_nested) -> if(
    is_nested,
    arrayMap(
        v -> v.path,
        arraySort(
            v -> (v.at_ns, v.path),
            arrayFilter(v -> NOT has(arrayMap(r -> r.parent_step_id, rs), v.step_id), vs)
        )
    ),
    arrayMap(
        v -> v.path,
        arraySort(
            v -> (v.turn_ns, ifNull(v.superstep, v.at_ns), v.path), arrayFilter(v -> v.parent_step_id = '', vs)
        )
    )
) AS path_of,
(unit, us) -> multiIf(
    unit = 'hour', formatDateTime(to_time(us), '%Y-%m-%d %H:00'),
    unit = 'day', formatDateTime(to_time(us), '%Y-%m-%d'),
    unit = 'week', toString(toMonday(to_time(us))),
    formatDateTime(to_time(us), '%Y-%m')
) AS period_of,
(unit, us) -> multiIf(
    unit = 'day', toDate(to_time(us)), unit = 'week', toMonday(to_time(us)), toDate(toStartOfMonth(to_time(us)))
) AS period_start,
-- A value of the metadata as text.
(told, k) -> multiIf(
    isNull(told) OR NOT JSONHas(assumeNotNull(told), k) OR JSONType(assumeNotNull(told), k) = 'Null', NULL,
    JSONType(assumeNotNull(told), k) = 'String', JSONExtractString(assumeNotNull(told), k),
    JSONExtractRaw(assumeNotNull(told), k)
) AS metadata_text
,
-- A column of an engagement by its name.
c -> multiIf(
    c = 'name', name,
    c = 'user_id', user_id,
    c = 'session_id', session_id,
    c = 'conversation_id', conversation_id,
    nullIf(service_name, '')
) AS column_of
,
-- The first of some attributes that is there; the first that says something.
ks -> if(
    arrayExists(k -> mapContains(SpanAttributes, k), ks),
    SpanAttributes[arrayFirst(k -> mapContains(SpanAttributes, k), ks)],
    NULL
) AS first_of,
ks -> nullIf(
    SpanAttributes[arrayFirst(k -> SpanAttributes[k] != '' AND lower(SpanAttributes[k]) != 'unknown', ks)], ''
) AS told_in,
-- A number of tokens; what cannot be one is unknown.
text -> if(ifNull(toFloat64OrNull(text) BETWEEN 0 AND 1e12, false), toInt64OrNull(text), NULL) AS tokens_of
,
-- What a call or an engagement is put under.
k -> k IN (
    'model', 'provider', 'operation', 'step', 'agent', 'caller', 'service', 'hour', 'day', 'week', 'month'
) AS is_of_call,
k -> multiIf(
    k = 'model', c.model,
    k = 'provider', c.provider,
    k = 'operation', toNullable(c.operation),
    k = 'step', c.step_path,
    k = 'agent', c.agent_name,
    k = 'caller', c.caller,
    k = 'service', c.service_name,
    period_of(k, intDiv(c.at_ns, 1000))
) AS key_of_call,
k -> multiIf(
    k IN ('name', 'engagement'), e.name,
    k = 'user_id', e.user_id,
    k = 'session_id', e.session_id,
    k = 'conversation_id', e.conversation_id,
    k = 'status', e.status,
    metadata_text(e.metadata, k)
) AS key_of_engagement,
-- What turns ask, step by step.
'Tuple(span_id String, id String, is_interrupt UInt8, path String, asked_ns Int64)' AS a_question,
concat('Tuple(at_ns Int64, is_start UInt8, turn UInt32, nth UInt32, question ', a_question, ')') AS a_moment,
'Tuple(
    id String, is_interrupt UInt8, first String, path String, asked_ns Int64,
    by_turn UInt32, answered_ns Int64, by_ended_ns Int64, asked_by UInt32
)' AS a_wait
