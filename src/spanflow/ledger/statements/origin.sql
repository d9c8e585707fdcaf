-- Between which times the rows of the turns lie that forks left from.
SELECT min(o.first_ns), max(o.last_ns)
FROM their_turns f
JOIN turn_facts o ON o.turn_id = f.origin_turn_id AND o.engagement_id = f.engagement_id;
