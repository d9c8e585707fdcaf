SELECT
    count(*) AS engagements,
    count(*) FILTER (status = 'completed') / nullif(count(*), 0) AS completed,
    count(*) FILTER (status = 'abandoned') / nullif(count(*), 0) AS abandoned,
    count(*) FILTER (status = 'failed') / nullif(count(*), 0) AS failed,
    count(*) FILTER (status = 'interrupted') / nullif(count(*), 0) AS interrupted,
    (
        SELECT count(*) FROM waits
        WHERE is_open AND turn_id IN (SELECT turn_id FROM turns WHERE $n$${engagement:raw}$n$ IN ('.*', name))
    ) AS open_waits,
    (
        SELECT count(*) FILTER (came > 1) / nullif(count(*), 0)
        FROM (
            SELECT user_id, count(*) AS came, max(started_at) AS last_at FROM engagements
            WHERE started_at < epoch_ms(${__to}::BIGINT) AND $n$${engagement:raw}$n$ IN ('.*', name)
            GROUP BY user_id
        )
        WHERE user_id IS NOT NULL AND last_at >= epoch_ms(${__from}::BIGINT)
    ) AS returning_users
FROM engagements
WHERE /* in range */
