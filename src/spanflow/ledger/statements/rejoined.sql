-- Write what `joined_turns`, `rejoined` and `joined_sums` say.
UPDATE records
SET @rejoined_set
FROM rejoined n
WHERE records.rowid = n.row_id;

UPDATE turn_facts
SET
    chain_id = j.chain_id,
    replayed_tokens = s.replayed_tokens,
    retried_tokens = s.retried_tokens,
    forked_tokens = s.forked_tokens,
    replayed_cost_usd = s.replayed_cost_usd,
    retried_cost_usd = s.retried_cost_usd,
    forked_cost_usd = s.forked_cost_usd
FROM joined_turns j
JOIN joined_sums s ON s.turn_id = j.turn_id
WHERE turn_facts.turn_id = j.turn_id;
