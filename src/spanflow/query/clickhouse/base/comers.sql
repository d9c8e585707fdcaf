-- One row for each asked step and each engagement that reached it.
SELECT
    position,
    {steps:Array(String)}[position] AS step,
    engagement_id,
    status,
    if(stands[position], how, 'advanced') AS outcome,
    reached[position + 1] AS has_gone_on,
    there[position] AS mine,
    arrayMap(
        w -> w.waited_ms, arrayFilter(w -> w.path = step AND isNotNull(w.waited_ms), waits)
    ) AS waited
FROM (
    SELECT
        *,
        arrayMap(s -> arrayFilter(v -> v.path = s, visits), {steps:Array(String)}) AS there,
        -- How many of the steps were reached one after the other. Within a time any visit of the first step may begin the
        -- best chain, otherwise the first one does.
        arraySort(
            arrayFlatten(arrayMap((vs, n) -> arrayMap(v -> (v.at_ns, toUInt32(n)), vs), there, arrayEnumerate(there)))
        ) AS starts,
        arrayMap(v -> v.at_ns, there[1]) AS all_firsts_ns,
        if(
            NOT {is_chained:UInt8} OR empty(all_firsts_ns),
            0,
            arrayMax(
                first_ns -> arrayFold(
                    (far, v) -> if(
                        v.2 = far.2 + 1 AND v.1 > far.1 AND (v.2 > 1 OR v.1 = first_ns) AND (
                            isNull({within_us:Nullable(Int64)})
                            OR intDiv(v.1, 1000) <= intDiv(first_ns, 1000) + ifNull({within_us:Nullable(Int64)}, 0)
                        ),
                        v,
                        far
                    ),
                    starts,
                    (toInt64(-1), toUInt32(0))
                ).2,
                if(isNull({within_us:Nullable(Int64)}), [arrayMin(all_firsts_ns)], all_firsts_ns)
            )
        ) AS far,
        arrayMap(
            (vs, n) -> if({is_chained:UInt8}, n <= far, notEmpty(vs)), there, arrayEnumerate(there)
        ) AS reached,
        -- The innermost asked step around each place counts.
        arrayConcat(
            if(status != 'completed' AND isNotNull(last_step), [assumeNotNull(last_step)], []),
            if(status = 'paused', arrayMap(w -> w.path, arrayFilter(w -> w.is_open, waits)), [])
        ) AS places,
        arrayMap(
            place -> arrayMax(
                s -> if(place = s OR startsWith(place, concat(s, '/')), length(s), 0), {steps:Array(String)}
            ),
            places
        ) AS lengths,
        arrayMap(
            s -> arrayExists(
                (place, most) -> length(s) = most AND (place = s OR startsWith(place, concat(s, '/'))), places, lengths
            ),
            {steps:Array(String)}
        ) AS stands,
        multiIf(status = 'paused', 'waiting', status = 'abandoned', 'dropped', status) AS how
    FROM journeys
)
ARRAY JOIN arrayEnumerate({steps:Array(String)}) AS position
WHERE reached[position]
