-- What there is to do for `their_turns`: repetitions to find, forks to place, questions to note, answers to match.
SELECT
    (SELECT count(*) FROM joined_turns),
    count(origin_turn_id),
    count(*) FILTER (is_touched AND outcome <> 'completed')
    + (SELECT count(*) FROM wait_facts SEMI JOIN touched_turns USING (turn_id)),
    count(*) FILTER (answers) + count(*) FILTER (outcome <> 'completed')
    + (SELECT count(*) FROM wait_facts SEMI JOIN touched_engagements USING (engagement_id))
FROM their_turns;
