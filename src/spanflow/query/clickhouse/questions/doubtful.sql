-- Where it cannot be said here which calls count: their number is not what the turn told, two instrumentations may have told
-- the same one, a call's numbers stand on one inside it, or a call is told in words that are not read here.
SELECT
    toInt64(countIf(ifNull(length(outer_ones) < told_calls, false))) AS missing,
    toInt64(
        countIf(
            is_told_inside
            OR (ifNull(length(outer_ones) != told_calls, true) AND scopes > 1)
        )
    ) AS twice,
    toInt64((SELECT count() FROM calls WHERE is_foreign)) AS foreign
FROM judged
