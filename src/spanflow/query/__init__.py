"""Questions asked of a ledger; this room knows SQL and nothing of how runs are captured."""
