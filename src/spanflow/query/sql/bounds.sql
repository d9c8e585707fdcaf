-- Between which times the rows of an engagement lie.
SELECT first_ns AS low, last_seen_ns AS high
FROM engagement_facts
WHERE engagement_id = $engagement_id
