SELECT
    time_bucket(to_milliseconds(greatest(${__interval_ms}::BIGINT, 60000)), c.started_at) AS time,
    coalesce(c.model, '(unknown)') AS model, sum(c.cost_usd)::DOUBLE AS cost_usd
FROM llm_calls AS c
LEFT JOIN turns AS t ON t.turn_id = c.turn_id
WHERE c.counted AND c.started_at >= epoch_ms(${__from}::BIGINT) AND c.started_at < epoch_ms(${__to}::BIGINT)
    AND $n$${engagement:raw}$n$ IN ('.*', t.name)
GROUP BY 1, 2
ORDER BY 1, 2
