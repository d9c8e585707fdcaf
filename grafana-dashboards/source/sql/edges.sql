SELECT
    from_step || ' → ' || to_step AS id, from_step AS source, to_step AS target, count(*) AS mainstat,
    quantile_cont(gap_ms, 0.5)::DOUBLE AS secondarystat
FROM transitions
WHERE engagement_id IN (SELECT engagement_id FROM engagements WHERE /* in range */)
GROUP BY from_step, to_step
ORDER BY mainstat DESC, id
