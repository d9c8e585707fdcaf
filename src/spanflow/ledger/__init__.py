"""The ledger: records in journals, gathered into a DuckDB file, without OpenTelemetry."""
