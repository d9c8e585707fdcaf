SELECT
    coalesce(c.model, '(unknown)') AS model, c.provider, count(*) AS calls, count(*) FILTER (c.total_tokens IS NULL) AS without_usage,
    sum(c.total_tokens)::BIGINT AS total_tokens, min(c.started_at) AS first_at, max(c.started_at) AS last_at
FROM llm_calls AS c
LEFT JOIN turns AS t ON t.turn_id = c.turn_id
WHERE c.counted AND c.cost_usd IS NULL
    AND c.started_at >= epoch_ms(${__from}::BIGINT) AND c.started_at < epoch_ms(${__to}::BIGINT)
    AND $n$${engagement:raw}$n$ IN ('.*', t.name)
GROUP BY 1, 2
ORDER BY calls DESC, 1, 2
LIMIT 50
