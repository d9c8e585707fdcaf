-- Calls inside other calls.
SELECT c.trace_id AS trace_id, c.span_id AS span_id
FROM calls AS c
JOIN (SELECT grp, arrayJoin(nested) AS span_id FROM judged) AS n ON n.grp = c.grp AND n.span_id = c.span_id
