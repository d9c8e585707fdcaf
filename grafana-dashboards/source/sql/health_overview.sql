SELECT
    max(count) FILTER (name = 'lost_records') AS lost_records,
    max(count) FILTER (name = 'refused_records') AS refused_records,
    max(count) FILTER (name = 'quarantined_segments') AS quarantined_segments,
    (SELECT count(*) FROM usage_conflicts) AS conflicts
FROM diagnostics
