"""A service's turns in ClickHouse: the engagement is the caller's there too."""

from __future__ import annotations

import pytest
from query.clickhouse.spans_of_records import spans_of

from spanflow.query.clickhouse import open_engine
from spanflow.query.questions import Questions


@pytest.mark.parametrize("outcome", ["completed", "failed", "paused"])
def test_the_caller_says_how_it_went(make, exported, outcome):
    records = [
        make.step(11, "ask", turn=1, until=90, status="completed"),
        make.turn(1, until=100, status=outcome, user_id="ada"),
        make.step(12, "look", turn=2, at=15, until=140),
        make.llm(21, 12, (100, 10), turn=2, at=20),
        make.turn(2, at=10, until=150, turn_kind="remote", name="search", goals=["found"]),
    ]
    engine = open_engine(exported.make("spans", spans_of(records)))
    try:
        [row] = Questions(engine).journeys()
    finally:
        engine.close()
    status = {"paused": "abandoned"}.get(outcome, outcome)
    assert (row.status, row.name, row.user_id) == (status, "booking", "ada")
    assert (row.turns, row.total_tokens, row.working_ms) == (2, 110, 150.0)
