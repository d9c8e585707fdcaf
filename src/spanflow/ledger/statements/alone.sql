-- Nothing is known of where the touched turns were before.
CREATE OR REPLACE TEMP TABLE touched_engagements (engagement_id VARCHAR);
CREATE OR REPLACE TEMP TABLE chains_before (turn_id VARCHAR, chain_id VARCHAR);
