-- Which spans and turns the new records touch.
CREATE OR REPLACE TEMP TABLE touched_spans AS
SELECT DISTINCT trace_id, span_id FROM incoming;

-- A copy of a span tells the same start, so rows are pruned by time; a day covers the clocks of any two writers.
CREATE OR REPLACE TEMP TABLE touched_turns AS
SELECT turn_id FROM incoming WHERE turn_id IS NOT NULL
UNION
SELECT turn_id
FROM records
SEMI JOIN touched_spans USING (trace_id, span_id)
WHERE turn_id IS NOT NULL
AND at_ns BETWEEN (SELECT min(coalesce(started_ns, ended_ns, 0)) - 86400000000000 FROM incoming)
    AND (SELECT max(coalesce(started_ns, ended_ns, 0)) + 86400000000000 FROM incoming);
