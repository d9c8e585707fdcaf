"""What a journey must bear besides its own test: to be verified, and to be taken over.

A test asks the ledger between its turns, so its rows were computed bit by bit, each turn changing
what is said of those before it. Another ledger that takes them in computes all at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import duckdb
import pytest

from spanflow.ledger.joining import join
from spanflow.ledger.publish import refresh
from spanflow.query.journeys import connect

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from conftest import Flow

VIEWS = [
    *("engagements(as_of := TIMESTAMP '2100-01-01')", "turns", "steps", "llm_calls", "tool_calls"),
    *("events", "waits", "transitions", "handoffs", "spans"),
]


def _rows(ledger: Path) -> dict[str, list[tuple[Any, ...]]]:
    with duckdb.connect(str(ledger), read_only=True) as connection:
        return {
            view: connection.execute(f"SELECT * FROM {view} ORDER BY ALL").fetchall()
            for view in VIEWS
        }


@pytest.fixture
def _bit_by_bit_and_at_once(flow: Flow, tmp_path: Path) -> Iterator[None]:
    yield
    refresh(flow.ledger)
    with connect(flow.ledger) as told:
        for one in told.engagements():
            found = told.verify(one.engagement_id, told.digest(one.engagement_id))
            assert found == "same", found
    other = tmp_path / "other.duckdb"
    join(other, flow.ledger)
    refresh(other)
    assert _rows(other) == _rows(flow.ledger)
