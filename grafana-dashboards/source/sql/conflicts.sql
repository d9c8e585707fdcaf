SELECT reason, what, count(*) AS conflicts FROM usage_conflicts GROUP BY ALL ORDER BY conflicts DESC, reason, what
