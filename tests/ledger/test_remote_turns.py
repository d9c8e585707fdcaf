"""What a service does for a turn: part of the engagement, and not what says how that went."""

from __future__ import annotations

import itertools

import pytest

HOUR = 3_600_000


def engagement(make, ledger, columns, **options):
    given = ", ".join(f"{name} := {value}" for name, value in options.items())
    return tuple(make.ask(ledger, f"SELECT {columns} FROM engagements({given})")[0].values())


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("outcome", ["completed", "failed", "cancelled", "left"])
def test_the_caller_says_how_it_went_in_whatever_order_they_arrive(ledger, make, outcome, order):
    records = [
        make.turn(1, until=100, status=outcome, name="shop", user_id="ada"),
        make.turn(2, at=10, until=50, turn_kind="remote", name="search", status="completed"),
        make.llm(21, None, (100, 10), turn=2, at=20),
    ]
    for place in order:
        make.write(ledger, [records[place]])
    status = {"cancelled": "abandoned", "left": "abandoned"}.get(outcome, outcome)
    columns = "status, name, user_id, turns, total_tokens, working_ms"
    assert engagement(make, ledger, columns) == (status, "shop", "ada", 2, 110, 100.0)


def test_a_service_that_failed_does_not_make_a_caller_fail_that_went_on(ledger, make):
    make.write(
        ledger,
        [
            make.turn(1, until=100),
            make.turn(2, at=10, until=150, turn_kind="remote", status="failed"),
        ],
    )
    assert engagement(make, ledger, "status, dropped_at") == ("completed", None)
    rows = make.ask(ledger, "SELECT status FROM status_history('e1')")
    assert [row["status"] for row in rows] == ["active", "completed"]


def test_goals_of_a_service_count_where_it_reaches_one_and_bind_nobody_else(ledger, make):
    called = {"at": 10, "until": 50, "turn_kind": "remote", "goals": ["found"]}
    make.write(ledger, [make.turn(1, until=100), make.turn(2, **called)])
    assert engagement(make, ledger, "status, goal") == ("completed", None)
    make.write(ledger, [make.turn(3, **called | {"goal": "found"}), make.turn(4, status="failed")])
    assert engagement(make, ledger, "status, goal") == ("completed", "found")


def test_alone_in_a_ledger_a_service_says_how_it_went_itself(ledger, make):
    make.write(
        ledger,
        [
            make.turn(1, until=50, turn_kind="remote", goals=["found"]),
            make.turn(2, at=60, until=90, turn_kind="remote", status="failed", name="search"),
        ],
    )
    assert engagement(make, ledger, "status, name") == ("failed", "search")
    rows = make.ask(ledger, "SELECT status FROM status_history('e1')")
    assert [row["status"] for row in rows] == ["active", "abandoned", "active", "failed"]


def test_a_pause_of_the_caller_lasts_whatever_a_service_still_does(ledger, make):
    asked = {"id": "q1"}
    wait = {"kind": "wait", "name": "wait", "at_ns": make.T0 + 90 * make.MS, "payload": asked}
    make.write(
        ledger,
        [
            make.turn(1, until=100, status="paused", events=[wait]),
            make.turn(2, at=10, until=200, turn_kind="remote"),
            make.turn(3, at=300, until=310, turn_kind="remote"),
        ],
    )
    assert engagement(make, ledger, "status", as_of="TIMESTAMP '2026-09-21 14:13:21'") == (
        "paused",
    )
    assert make.ask(ledger, "SELECT resolution FROM waits") == [{"resolution": None}]
    make.write(
        ledger,
        [make.turn(4, at=HOUR, until=HOUR + 10, turn_kind="resume", answers=["*"])],
    )
    assert engagement(make, ledger, "status, waiting_ms > 3500000") == ("completed", True)
    assert make.ask(ledger, "SELECT resolution FROM waits") == [{"resolution": "answered"}]


def test_a_service_with_questions_of_its_own_is_answered_on_its_thread(ledger, make):
    asked = {"id": "q1"}
    wait = {"kind": "wait", "name": "wait", "at_ns": make.T0 + 40 * make.MS, "payload": asked}
    there = {"turn_kind": "remote", "conversation_id": "t", "on_thread": True}
    make.write(
        ledger,
        [
            make.turn(1, until=100),
            make.turn(2, at=10, until=50, status="paused", events=[wait], **there),
            make.turn(3, at=200, until=300, turn_kind="message"),
            make.turn(4, at=210, until=250, answers=["q1"], **there),
        ],
    )
    rows = make.ask(ledger, "SELECT resolution, answered_turn_id FROM waits")
    assert rows == [{"resolution": "answered", "answered_turn_id": make.ident(4)}]
    [row] = make.ask(ledger, "SELECT count(DISTINCT chain_id) AS n FROM turns")
    assert row == {"n": 1}
