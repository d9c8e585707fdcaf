"""Knows OpenTelemetry and no framework: turns, steps and calls as spans and as ledger records."""
