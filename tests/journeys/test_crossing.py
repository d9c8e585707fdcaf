"""A journey through five processes with the SQLite savers; Postgres is among the back ends."""

from __future__ import annotations

import signal

import pytest

pytest.register_assert_rewrite("journeys.crossing", "journeys.processes")

from journeys.apps.approval import APPROVE, BOOK, INTAKE  # noqa: E402
from journeys.crossing import CHECKS, cross  # noqa: E402 - after its assertions are told of
from journeys.processes import Workers  # noqa: E402


@pytest.fixture(scope="module", params=["sqlite", "asqlite"])
def crossing(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    return cross(Workers(folder, "approval.py", request.param, str(folder / "saver.db")))


@pytest.mark.slow
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_five_processes_and_one_journey(crossing, check):
    check(crossing)


@pytest.mark.slow
def test_a_worker_killed_with_the_answer_in_its_hands(tmp_path):
    """The answer lies in the checkpoints already: the next worker goes on without asking again."""
    workers = Workers(tmp_path, "approval.py", "sqlite", str(tmp_path / "saver.db"))
    workers.work("start")
    workers.work("answer", returns=-signal.SIGKILL, DIE_IN="approve")
    assert workers.sql("SELECT status, dropped_at FROM engagements") == [("interrupted", "approve")]
    assert workers.work("retry")["log"][-1] == "booked"

    approve = sum(APPROVE)
    assert workers.sql(
        "SELECT kind, outcome, total_tokens, replayed_tokens, retried_tokens "
        "FROM turns ORDER BY started_at"
    ) == [
        ("new", "paused", sum(INTAKE) + approve, 0, 0),
        ("resume", "interrupted", approve, approve, 0),
        ("retry", "completed", approve + sum(BOOK), 0, approve),
    ]
    ids = workers.sql("SELECT turn_id FROM turns ORDER BY started_at")
    assert workers.sql("SELECT turn_id, answered_turn_id, resolution FROM waits") == [
        (*ids[0], *ids[1], "approved")
    ]
    assert workers.sql(
        "SELECT list(status ORDER BY started_at), list(DISTINCT visit) FROM steps "
        "WHERE path = 'approve' GROUP BY execution_id"
    ) == [(["waiting", "interrupted", "completed"], [1])]
    history = "status_history((SELECT engagement_id FROM engagements))"
    assert [
        status for (status,) in workers.sql(f"SELECT status FROM {history} ORDER BY since")
    ] == [*("active", "paused", "active", "interrupted", "active", "completed")]
