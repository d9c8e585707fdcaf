SELECT
    w.engagement_id, e.user_id, w.path, w.label, e.status, w.asked_at,
    epoch_ms(epoch_ms(${__to}::BIGINT) - w.asked_at) AS waits_ms
FROM waits(as_of := epoch_ms(${__to}::BIGINT)) AS w
JOIN engagements(as_of := epoch_ms(${__to}::BIGINT)) AS e USING (engagement_id)
WHERE w.is_open AND $n$${engagement:raw}$n$ IN ('.*', e.name)
ORDER BY w.asked_at, w.engagement_id
LIMIT 200
