SELECT engagement_id
FROM engagements
WHERE {where}
ORDER BY started_at DESC, engagement_id DESC
LIMIT ?
