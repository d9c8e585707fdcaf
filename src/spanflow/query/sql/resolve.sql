SELECT engagement_id
FROM engagements
WHERE starts_with(engagement_id, $part)
   OR ends_with(engagement_id, $part)
ORDER BY engagement_id = $part DESC, engagement_id
LIMIT $most
