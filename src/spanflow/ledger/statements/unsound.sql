-- Those of `chosen` whose computed columns, facts or sums are not what their rows add up to.
SELECT p.number
FROM placed p
JOIN records r ON r.origin = p.origin
LEFT JOIN computed c ON c.row_id = r.rowid
WHERE c.row_id IS NULL
OR r.at_ns IS DISTINCT FROM coalesce(r.started_ns, r.ended_ns, 0)
OR r.errors IS DISTINCT FROM if(
    r.events IS NULL, 0,
    coalesce(len(list_filter(event_list(r.events), lambda event: event.kind = 'error')), 0)
)
OR @different
OR r.rowid IN (SELECT row_id FROM rejoined)
OR (r.turn_id IS NULL AND (@rejoined_here))
UNION
SELECT t.number
FROM chosen_turns t
JOIN (
    SELECT turn_id
    FROM (
        (
            FROM turn_facts
            EXCEPT ALL
            FROM ledger.turn_facts SEMI JOIN touched_turns USING (turn_id)
        )
        UNION ALL
        (
            FROM ledger.turn_facts SEMI JOIN touched_turns USING (turn_id)
            EXCEPT ALL
            FROM turn_facts
        )
    )
) d ON d.turn_id = t.turn_id
UNION
SELECT t.number
FROM chosen_turns t
JOIN (
    SELECT turn_id
    FROM (
        (
            FROM wait_facts
            EXCEPT ALL
            FROM ledger.wait_facts SEMI JOIN touched_turns USING (turn_id)
        )
        UNION ALL
        (
            FROM ledger.wait_facts SEMI JOIN touched_turns USING (turn_id)
            EXCEPT ALL
            FROM wait_facts
        )
    )
) d ON d.turn_id = t.turn_id
UNION
SELECT c.number
FROM chosen c
JOIN ledger.wait_facts w ON w.engagement_id = c.engagement_id
WHERE w.turn_id NOT IN (SELECT turn_id FROM chosen_turns)
UNION
SELECT c.number
FROM chosen c
JOIN (
    SELECT engagement_id
    FROM (
        (
            FROM engagement_sums(9223372036854775807, (SELECT list(engagement_id) FROM chosen))
            EXCEPT ALL
            FROM ledger.engagement_facts SEMI JOIN chosen USING (engagement_id)
        )
        UNION ALL
        (
            FROM ledger.engagement_facts SEMI JOIN chosen USING (engagement_id)
            EXCEPT ALL
            FROM engagement_sums(9223372036854775807, (SELECT list(engagement_id) FROM chosen))
        )
    )
) e ON e.engagement_id = c.engagement_id;
