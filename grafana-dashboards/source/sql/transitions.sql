SELECT
    from_step, to_step, count(*) AS times, count(DISTINCT engagement_id) AS engagements,
    quantile_cont(gap_ms, 0.5)::DOUBLE AS p50_gap_ms, quantile_cont(gap_ms, 0.95)::DOUBLE AS p95_gap_ms
FROM transitions
WHERE $s$${step:raw}$s$ IN ('.*', from_step, to_step) AND engagement_id IN (
    SELECT engagement_id FROM engagements WHERE /* in range */
)
GROUP BY from_step, to_step
ORDER BY times DESC, from_step, to_step
