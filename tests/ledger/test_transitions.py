"""The edges really taken, and what made a user wait."""

from __future__ import annotations

import pytest


def edges(make, ledger):
    rows = make.ask(ledger, "SELECT from_step, to_step, gap_ms FROM transitions ORDER BY ALL")
    return [tuple(row.values()) for row in rows]


def path(make, ledger):
    rows = make.ask(
        ledger, "SELECT kind, name, duration_ms FROM critical_path('e1') ORDER BY position"
    )
    return [tuple(row.values()) for row in rows]


def test_a_join_follows_all_that_triggered_it_however_far_back(ledger, make):
    a, b, c = (make.ident(number) for number in (2, 3, 4))
    make.write(
        ledger,
        [
            make.turn(until=99),
            make.step(2, "a", superstep=1, at=0, until=10),
            make.step(3, "b", superstep=2, at=12, until=20, triggered_by=[a]),
            make.step(4, "c", superstep=2, at=12, until=14, triggered_by=[a]),
            make.step(5, "d", superstep=3, at=21, until=30, triggered_by=[c]),
            make.step(6, "end", superstep=4, at=31, until=40, triggered_by=[b, make.ident(5)]),
        ],
    )
    assert edges(make, ledger) == [
        ("a", "b", 2.0),
        ("a", "c", 2.0),
        ("b", "end", 11.0),
        ("c", "d", 7.0),
        ("d", "end", 1.0),
    ]


def test_a_trigger_that_nobody_knows_makes_no_edge(ledger, make):
    make.write(
        ledger,
        [
            make.turn(until=99),
            make.step(2, "a", superstep=1, triggered_by=["f" * 16, "x"]),
            make.step(3, "b", superstep=2, triggered_by=[7, None]),
        ],
    )
    assert edges(make, ledger) == []


@pytest.mark.parametrize(
    ("last", "first", "wanted"),
    [
        # A breakpoint between them.
        ({"status": "completed"}, {"superstep": 2, "execution_id": "y"}, [("a", "b", 92.0)]),
        # The same task again, after a pause or a crash.
        ({"status": "waiting"}, {"superstep": 1, "execution_id": "x", "name": "a"}, []),
        ({"phase": "start"}, {"superstep": 1, "name": "a"}, []),
        # One of two that ran side by side.
        ({"status": "completed"}, {"superstep": 1, "execution_id": "y"}, []),
    ],
)
def test_a_turn_that_goes_on_comes_from_where_the_one_before_stopped(
    ledger, make, last, first, wanted
):
    name = first.pop("name", "b")
    make.write(
        ledger,
        [
            make.turn(1, at=0, until=9, status="paused"),
            make.step(2, "a", turn=1, at=1, until=8, superstep=1, execution_id="x", **last),
            make.turn(11, at=99, until=200, turn_kind="resume"),
            make.step(12, name, turn=11, at=100, until=110, **first),
            make.turn(21, at=300, until=310, turn_kind="message"),
            make.step(22, "a", turn=21, at=300, superstep=4),
        ],
    )
    assert edges(make, ledger) == wanted


def test_the_path_goes_back_from_the_last_step_to_what_it_waited_for(ledger, make):
    make.write(
        ledger,
        [
            make.turn(1, at=0, until=100, status="paused"),
            make.step(2, "plan", turn=1, at=0, until=10, superstep=1),
            make.step(3, "fast", turn=1, at=10, until=15, superstep=2),
            make.step(4, "slow", turn=1, at=10, until=60, superstep=2),
            make.tool(30, 4, "search", turn=1, at=12, until=30),
            make.tool(31, 4, "fetch", turn=1, at=14, until=42),
            make.llm(32, 4, (1, 1), turn=1, at=42, until=58),
            make.step(5, "sub", turn=1, at=60, until=100, superstep=3, status="waiting"),
            make.step(
                6, "ask", turn=1, path="sub/ask", parent_step_id=5, at=70, until=100,
                status="waiting",
                events=[
                    {"kind": "wait", "name": "confirm", "at_ns": make.T0, "payload": {"id": "i"}}
                ],
            ),
            make.turn(11, at=1100, until=1110, turn_kind="resume"),
            make.step(12, "done", turn=11, at=1100, until=1110),
        ],
    )  # fmt: skip
    assert path(make, ledger) == [
        ("step", "plan", 10.0),
        ("step", "slow", 6.0),
        ("tool_call", "fetch", 28.0),
        ("llm_call", "m", 16.0),
        ("step", "ask", 30.0),
        ("wait", "confirm", 1000.0),
        ("step", "done", 10.0),
    ]
    [row] = make.ask(ledger, "SELECT sum(share) AS whole FROM critical_path('e1')")
    assert row["whole"] == pytest.approx(1)


def test_the_path_follows_triggers_into_nested_steps(ledger, make):
    make.write(
        ledger,
        [
            make.turn(1, at=0, until=100),
            make.step(2, "short", turn=1, at=0, until=10, superstep=1),
            make.step(3, "long", turn=1, at=0, until=50, superstep=1),
            make.step(4, "sub", turn=1, at=50, until=90, superstep=2, triggered_by=[make.ident(2)]),
            make.step(5, "in", turn=1, path="sub/in", parent_step_id=4, at=52, until=90),
            make.step(6, "end", turn=1, at=90, until=95, superstep=3, triggered_by=[make.ident(4)]),
        ],
    )
    assert path(make, ledger) == [("step", "short", 10.0), ("step", "in", 38.0), ("step", "end", 5)]


def test_circles_and_records_without_times_end(ledger, make):
    make.write(
        ledger,
        [
            make.turn(1, until=50),
            make.step(2, "a", at=1, until=5, parent_step_id=3, triggered_by=[make.ident(3)]),
            make.step(3, "b", at=1, until=5, parent_step_id=2, triggered_by=[make.ident(2)]),
            make.step(4, "c", at=1, until=1, triggered_by=[make.ident(4)]),
            make.step(5, "d", at=1, until=1, triggered_by=[make.ident(5)]),
            make.step(6, "e", at=1, started_ns=None),
        ],
    )
    assert len(path(make, ledger)) >= 1
    assert make.ask(ledger, "FROM critical_path('nobody')") == []
    assert make.ask(ledger, "FROM status_history('nobody')") == []
