-- `existing`: the rows of the touched spans as they are.
CREATE OR REPLACE TEMP TABLE existing AS
SELECT rowid AS row_id, *
FROM records
WHERE rowid IN (SELECT row_id FROM twins);
