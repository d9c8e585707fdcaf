-- What an audit trail needs: which rows came when, what was erased, what was lost.

-- The revision of the ledger at which a row was written last: what is new since then is found without reading the rest.
ALTER TABLE records ADD COLUMN revision BIGINT;
UPDATE records SET revision = (SELECT revision FROM meta);

ALTER TABLE meta ADD COLUMN salt VARCHAR;          -- mixed into the hashes of erased ids
ALTER TABLE meta ADD COLUMN ingested_at TIMESTAMP; -- when segments were last ingested
UPDATE meta SET salt = sha256(uuid()::VARCHAR || uuid()::VARCHAR);

-- Engagements and turns that were erased: sha256(salt || id), so that a late record cannot bring them back.
CREATE TABLE tombstones (id_hash VARCHAR NOT NULL, erased_at TIMESTAMP NOT NULL);

-- Records that a process could not keep.
CREATE TABLE losses (process_id VARCHAR NOT NULL, lost BIGINT NOT NULL);
