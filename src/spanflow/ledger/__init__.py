"""The ledger: complete records in journals, gathered into one DuckDB file; knows nothing of OpenTelemetry."""
