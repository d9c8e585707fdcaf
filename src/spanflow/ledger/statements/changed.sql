-- `changed`: rows that differ from what is stored. Most rows of a long turn do not, and are not written again.
CREATE OR REPLACE TEMP TABLE changed AS
FROM fresh
EXCEPT
SELECT * EXCLUDE (row_id) FROM existing;
