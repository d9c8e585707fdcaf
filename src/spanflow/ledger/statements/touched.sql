-- Which spans and turns the new records touch.

-- A begin whose end came along, and tells all that it told, is needless.
CREATE OR REPLACE TEMP TABLE needless AS
SELECT begun.row_id
FROM (SELECT rowid AS row_id, trace_id, span_id, @filled AS filled FROM incoming WHERE phase = 'start') begun
JOIN (
    SELECT trace_id, span_id, @filled AS filled
    FROM incoming
    WHERE phase = 'end' AND (trace_id, span_id) IN (
        SELECT (trace_id, span_id) FROM incoming WHERE phase = 'start'
    )
) ended USING (trace_id, span_id)
WHERE (begun.filled & ended.filled) = begun.filled;

CREATE OR REPLACE TEMP TABLE touched_spans AS
SELECT trace_id, span_id, count(*) AS records
FROM incoming
WHERE rowid NOT IN (FROM needless)
GROUP BY trace_id, span_id;

-- The rows there are of these spans. Copies of a span tell the same start, so rows are pruned by time: an hour around
-- the new records, and the whole of the turns that they name.
CREATE OR REPLACE TEMP TABLE twins AS
SELECT rowid AS row_id, trace_id, span_id, turn_id
FROM records
SEMI JOIN touched_spans USING (trace_id, span_id)
WHERE at_ns BETWEEN @low AND @high;

CREATE OR REPLACE TEMP TABLE touched_turns AS
SELECT turn_id FROM incoming WHERE turn_id IS NOT NULL
UNION
SELECT turn_id FROM twins WHERE turn_id IS NOT NULL;

-- Calls outside a turn are judged by trace.
CREATE OR REPLACE TEMP TABLE touched_traces AS
SELECT trace_id FROM incoming WHERE turn_id IS NULL
UNION
SELECT trace_id FROM twins WHERE turn_id IS NULL;
