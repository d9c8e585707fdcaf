SELECT path
FROM (
    SELECT path, row_number() OVER (PARTITION BY engagement_id ORDER BY min(started_at), path) AS place
    FROM steps
    WHERE path NOT LIKE '%/%' AND turn_id IN (
        SELECT turn_id FROM turns WHERE $n$${engagement:raw}$n$ IN ('.*', name)
    )
    GROUP BY engagement_id, path
)
GROUP BY path
ORDER BY avg(place), path
LIMIT 60
