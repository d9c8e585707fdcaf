-- Sum up anew the touched engagements.
DELETE FROM engagement_facts WHERE engagement_id IN (SELECT engagement_id FROM touched_engagements);

INSERT INTO engagement_facts BY NAME
FROM engagement_sums(
    9223372036854775807,
    (SELECT list(DISTINCT engagement_id) FROM touched_engagements WHERE engagement_id IS NOT NULL)
);
