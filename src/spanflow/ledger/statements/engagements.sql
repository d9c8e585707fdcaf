-- Sum up anew the engagements that the touched turns belong to, and those they belonged to (`touched_engagements`).
INSERT INTO touched_engagements
SELECT DISTINCT engagement_id
FROM turn_facts
SEMI JOIN touched_turns USING (turn_id);

DELETE FROM engagement_facts WHERE engagement_id IN (SELECT engagement_id FROM touched_engagements);

INSERT INTO engagement_facts BY NAME
FROM engagement_sums(
    9223372036854775807,
    (SELECT list(DISTINCT engagement_id) FROM touched_engagements WHERE engagement_id IS NOT NULL)
);
