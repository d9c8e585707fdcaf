-- Beside those that the touched turns belonged to, the engagements they belong to now.
INSERT INTO touched_engagements
SELECT DISTINCT engagement_id
FROM turn_facts
SEMI JOIN touched_turns USING (turn_id);
