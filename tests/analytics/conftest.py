"""Ledgers that real journals made, asked through plain duckdb as a stranger would."""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("analytics.asking", "analytics.holding")

from ledger.conftest import ledger, make  # noqa: E402, F401 - the factory of records, here too
