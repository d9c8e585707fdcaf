"""A ledger with three engagements, written through the journal as any process would."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from spanflow.ledger.journal import Journal

if TYPE_CHECKING:
    from collections.abc import Iterator

RECORDS = Path(__file__).parents[1] / "journeys" / "three.ndjson"


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Path]:
    """A booking with a pause, an order that failed under a nasty name, and one still running."""
    path = tmp_path / "traces.duckdb"
    journal = Journal(path)
    for line in RECORDS.read_text(encoding="utf-8").splitlines():
        assert journal.append(json.loads(line))
    journal.seal()
    yield path
    # Open until here: what a process that is gone had begun counts as interrupted.
    journal.close()
