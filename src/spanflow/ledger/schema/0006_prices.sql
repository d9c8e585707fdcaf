-- What models cost, from when on, and what follows for calls whose cost nobody reported.

CREATE TABLE prices (
    model VARCHAR NOT NULL,
    provider VARCHAR,                    -- null: whoever serves it
    valid_from DATE NOT NULL,            -- the first day (UTC) of calls it is for
    above_input_tokens BIGINT NOT NULL,  -- only for calls with more input than this; 0: for all
    -- US dollars per million tokens; null where nobody told.
    input_usd_per_million DECIMAL(20, 10),
    output_usd_per_million DECIMAL(20, 10),
    cache_read_usd_per_million DECIMAL(20, 10),
    cache_write_usd_per_million DECIMAL(20, 10),
    reasoning_usd_per_million DECIMAL(20, 10),
    source VARCHAR NOT NULL,             -- 'set' by hand, which goes before all else; 'litellm' or a file's name
    told_at TIMESTAMP NOT NULL
);

-- Computed like all else from a row, and from the prices as they are now.
ALTER TABLE records ADD COLUMN priced_usd DOUBLE;
