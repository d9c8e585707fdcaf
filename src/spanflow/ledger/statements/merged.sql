-- `merged`: one row for each touched span. The best record wins, and what it leaves null is filled from the next best.
-- Those records that are still needed for that are kept in `partials`, so the order of arrival never matters.
CREATE OR REPLACE TEMP TABLE several AS
SELECT trace_id, span_id FROM touched_spans WHERE records > 1
UNION
SELECT trace_id, span_id FROM twins;

CREATE OR REPLACE TEMP TABLE said AS
SELECT @fields FROM incoming SEMI JOIN several USING (trace_id, span_id)
UNION
SELECT @fields FROM partials SEMI JOIN several USING (trace_id, span_id)
UNION
SELECT @fields
FROM existing
ANTI JOIN partials USING (trace_id, span_id);

CREATE OR REPLACE TEMP TABLE ranked AS
SELECT
    *,
    @filled AS filled,
    row_number() OVER (
        PARTITION BY trace_id, span_id
        ORDER BY
            phase = 'end',
            CASE source WHEN 'capture' THEN 3 WHEN 'exporter' THEN 2 WHEN 'otlp' THEN 1 ELSE 0 END,
            ended_ns NULLS FIRST,
            said::VARCHAR
    ) AS rank
FROM said;

CREATE OR REPLACE TEMP TABLE completed AS
SELECT
    trace_id,
    span_id,
    -- The status of a start says nothing of an end.
    CASE
        WHEN arg_max(phase, rank) = 'end' THEN arg_max(status, rank) FILTER (phase = 'end')
        ELSE arg_max(status, rank)
    END AS status,
    @best
FROM ranked
GROUP BY trace_id, span_id;

-- Most spans are told once, and are read where they lie: a copy of all would take as long as reading them did.
CREATE OR REPLACE TEMP TABLE set_aside AS
FROM needless
UNION ALL
SELECT rowid FROM incoming SEMI JOIN several USING (trace_id, span_id);

CREATE OR REPLACE TEMP VIEW merged AS
SELECT @fields FROM incoming WHERE rowid NOT IN (FROM set_aside)
UNION ALL
SELECT @fields FROM completed;

-- A record that fills nothing its betters leave null will never be needed again.
CREATE OR REPLACE TEMP TABLE needed AS
SELECT *
FROM ranked low
WHERE NOT EXISTS (
    FROM ranked high
    WHERE high.trace_id = low.trace_id
    AND high.span_id = low.span_id
    AND high.rank > low.rank
    AND (high.filled & low.filled) = low.filled
);

DELETE FROM partials WHERE (trace_id, span_id) IN (SELECT (trace_id, span_id) FROM several);
INSERT INTO partials
SELECT @fields
FROM needed
SEMI JOIN (SELECT trace_id, span_id FROM needed GROUP BY trace_id, span_id HAVING count(*) > 1) n
    USING (trace_id, span_id);

-- `turn_rows`: with them, all rows of the touched turns, read where they lie: a turn may be larger than memory. Calls are
-- judged by turn, outside a turn by trace.
CREATE OR REPLACE TEMP VIEW turn_rows AS
SELECT @fields, coalesce(turn_id, trace_id) AS grp, NULL::BIGINT AS row_id
FROM merged
UNION ALL
SELECT @fields, turn_id, rowid
FROM records
SEMI JOIN touched_turns USING (turn_id)
ANTI JOIN touched_spans USING (trace_id, span_id)
WHERE at_ns BETWEEN @low AND @high
UNION ALL
SELECT @fields, trace_id, rowid
FROM records
SEMI JOIN touched_traces USING (trace_id)
ANTI JOIN touched_spans USING (trace_id, span_id)
WHERE turn_id IS NULL;
