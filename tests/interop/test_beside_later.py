"""Somebody else is switched on after us: the graph's own steps stand, and nothing leaks."""

from __future__ import annotations

import pytest
from instrumentors import LATER

pytestmark = [pytest.mark.interop, pytest.mark.timeout(900)]


@pytest.fixture(scope="module", params=LATER, ids=lambda beside: beside.name)
def outcome(request, run_beside):
    """What the app saw, and the ledger."""
    return run_beside(request.param)


def test_nothing_is_left_standing_with_the_caller(outcome):
    seen, _ = outcome
    assert seen == {"left_standing": [], "parent": False}


def test_each_thread_is_one_engagement_of_the_graphs_own_steps(outcome):
    _, ledger = outcome
    asked = "SELECT name, user_id, status, turns FROM engagements ORDER BY started_at"
    assert ledger.sql(asked).fetchall() == [
        ("helper", "ada", "completed", 2),
        ("helper", "bob", "completed", 2),
    ]
    asked = "SELECT path, count(*) FROM steps GROUP BY path ORDER BY path"
    assert ledger.sql(asked).fetchall() == [("answer", 2), ("ask", 4)]


def test_its_waits_are_known(outcome):
    _, ledger = outcome
    asked = "SELECT step_name, is_open FROM waits"
    assert ledger.sql(asked).fetchall() == [("ask", False)] * 2
