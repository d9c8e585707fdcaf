"""Every change of a status: the history says at each instant what the engagements said then."""

from __future__ import annotations

import itertools
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from statuses import status_at

from spanflow.ledger.ingest import ingest
from spanflow.ledger.journal import Journal

BEGAN = datetime.fromtimestamp(1_790_000_000, UTC).replace(tzinfo=None)
IDLE_S = 1800


def at(seconds):
    return BEGAN + timedelta(seconds=seconds)


def told(make, ledger, columns="status, abandon_reason, dropped_at", **options):
    given_options = "".join(f", {name} := {value}" for name, value in options.items())
    rows = make.ask(ledger, f"SELECT {columns} FROM status_history('e1'{given_options})")
    return [tuple(row.values()) for row in rows]


def test_who_was_silent_and_came_back_has_both_in_the_history(ledger, make):
    make.write(
        ledger,
        [
            make.turn(1, until=10_000, status="paused"),
            make.step(2, "ask", turn=1, until=10_000, status="waiting"),
            make.turn(11, at=4_000_000, until=4_001_000, turn_kind="resume"),
        ],
    )
    assert told(make, ledger, "status, abandon_reason, dropped_at, since, until, turn_id") == [
        ("active", None, None, at(0), at(10), make.ident(1)),
        ("paused", None, None, at(10), idle(10), make.ident(1)),
        ("abandoned", "left", "ask", idle(10), at(4000), None),
        ("active", None, None, at(4000), at(4001), make.ident(11)),
        ("completed", None, None, at(4001), None, make.ident(11)),
    ]
    then = f"TIMESTAMP '{at(3000)}'"
    assert [row[0] for row in told(make, ledger, as_of=then)] == ["active", "paused", "abandoned"]
    patient = told(make, ledger, idle_after="INTERVAL 2 HOUR")
    assert [row[0] for row in patient] == ["active", "paused", "active", "completed"]


def idle(seconds):
    return at(seconds + IDLE_S) + timedelta(microseconds=1)


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({"status": "completed", "mark": "gave_up"}, ("abandoned", "gave_up")),
        ({"status": "paused", "mark": "gave_up"}, ("abandoned", "gave_up")),
        ({"status": "paused", "resolution": "expired"}, ("abandoned", "expired")),
        ({"status": "completed", "resolution": "gave_up"}, ("abandoned", "gave_up")),
        ({"status": "completed", "resolution": "approved"}, ("completed", None)),
        ({"status": "failed", "mark": "gave_up"}, ("failed", None)),
        ({"status": "completed", "mark": "gave_up", "goal": "g"}, ("completed", None)),
        ({"status": "cancelled"}, ("abandoned", "interrupted")),
        ({"status": "left"}, ("abandoned", "interrupted")),
        ({"status": "completed", "goals": ["g"]}, ("abandoned", "left")),
        ({"status": "paused"}, ("abandoned", "left")),
    ],
    ids=str,
)
def test_an_end_has_its_reason(ledger, make, fields, wanted):
    mark = fields.pop("mark", None)
    events = [{"kind": mark, "name": mark, "at_ns": make.T0, "payload": {}}] if mark else None
    make.write(ledger, [make.turn(1, until=50, turn_kind="resume", events=events, **fields)])
    late = "as_of := TIMESTAMP '2100-01-01'"
    [row] = make.ask(ledger, f"SELECT status, abandon_reason FROM engagements({late})")
    assert tuple(row.values()) == wanted
    assert told(make, ledger, "status, abandon_reason")[-1] == wanted
    # Whoever comes back takes it back.
    make.write(ledger, [make.turn(11, at=100, until=200, turn_kind="message")])
    [row] = make.ask(ledger, f"SELECT abandon_reason FROM engagements({late})")
    assert row["abandon_reason"] == ("left" if fields.get("goals") else None)


def test_time_that_turns_share_counts_once(ledger, make):
    make.write(
        ledger,
        [
            make.turn(1, at=0, until=10, status="paused"),
            make.turn(11, at=100, until=200, status="paused"),
            make.turn(21, at=110, until=150, turn_kind="message"),
            make.turn(31, at=190, until=250, turn_kind="message", status="paused"),
            make.turn(41, at=300, until=310, turn_kind="resume"),
        ],
    )
    [row] = make.ask(ledger, "SELECT working_ms, waiting_ms FROM engagements")
    assert tuple(row.values()) == (10 + 150 + 10, 90 + 50)


@pytest.mark.parametrize("resolution", ["gave_up", "expired"])
def test_a_turn_without_a_step_leaves_it_where_it_stood(ledger, make, resolution):
    told = {"turn_kind": "resume", "answers": ["*"], "resolution": resolution}
    make.write(
        ledger,
        [
            make.turn(1, until=10, status="paused", goals=["pay"]),
            make.step(2, "confirm", turn=1, until=10, status="waiting"),
            make.step(3, "beside", turn=1, at=1, until=10),
            make.turn(11, at=100, until=101, goals=["pay"], **told),
            # What a service does says nothing of it.
            make.turn(21, at=102, until=110, turn_kind="remote", status="failed"),
            make.step(22, "search", turn=21, at=102, until=110, status="failed"),
        ],
    )
    rows = make.ask(ledger, "SELECT status, dropped_at, last_step FROM engagements")
    assert [tuple(row.values()) for row in rows] == [("abandoned", "confirm", "confirm")]
    before = "as_of := TIMESTAMP '2026-09-21 14:13:20.050'"
    rows = make.ask(ledger, f"SELECT status, dropped_at, last_step FROM engagements({before})")
    assert [tuple(row.values()) for row in rows] == [("paused", None, "confirm")]
    *_, last = make.ask(ledger, "SELECT abandon_reason, dropped_at FROM status_history('e1')")
    assert tuple(last.values()) == (resolution, "confirm")
    [row] = make.ask(ledger, "FROM drop_offs()")
    assert (row["step"], row["reason"], row["of_reached"]) == ("confirm", resolution, 1.0)
    first, _ = make.ask(ledger, "FROM funnel(['confirm', 'pay'])")
    assert (first["reached"], first["advanced"], first["dropped"]) == (1, 0, 1)


def test_a_turn_that_died_is_no_time_that_somebody_waited(ledger, make):
    make.write(
        ledger,
        [
            make.turn(1, until=10, status="paused", on_thread=True),
            make.step(2, "ask", turn=1, until=10, status="waiting"),
            make.turn(11, phase="start", at=100, turn_kind="resume", answers=["*"]),
            make.step(12, "ask", turn=11, at=100, until=130),
        ],
    )
    make.close(ledger)
    make.write(ledger, [make.turn(21, at=300, until=310, turn_kind="retry")])
    [row] = make.ask(ledger, "SELECT working_ms, waiting_ms FROM engagements")
    assert tuple(row.values()) == (10 + 30 + 10, 90)
    [row] = make.ask(
        ledger, "SELECT sum(duration_ms) AS ms FROM critical_path('e1') WHERE kind = 'wait'"
    )
    assert row["ms"] == 90


TURNS = st.lists(
    st.fixed_dictionaries(
        {
            "outcome": st.sampled_from(
                ["completed", "paused", "failed", "cancelled", "left", None, "dead"]
            ),
            "at_s": st.integers(0, 6000),
            "lasts_s": st.integers(0, 3000),
            "reaches_s": st.one_of(st.none(), st.integers(0, 3000)),
            "goals": st.booleans(),
            "on_thread": st.booleans(),
            "mark": st.sampled_from([None, None, "gave_up", "expired"]),
            "remote": st.sampled_from([False, False, True]),
            "has_step": st.booleans(),
        }
    ),
    min_size=1,
    max_size=4,
)


def recorded(make, turn, index):
    number, begin = turn["number"], turn["at_s"] * 1000
    until = begin + turn["lasts_s"] * 1000
    same = {"engagement_id": f"e{index}", "goals": ["g"] if turn["goals"] else None}
    same["on_thread"] = turn["on_thread"]
    same["turn_kind"] = "remote" if turn["remote"] else "new"
    events = []
    if turn["reaches_s"] is not None:
        moment = make.T0 + (turn["at_s"] + turn["reaches_s"]) * 1000 * make.MS
        events.append({"kind": "goal", "name": "g", "at_ns": moment, "payload": None})
    if turn["mark"] == "gave_up":
        events.append({"kind": "gave_up", "name": "x", "at_ns": make.T0, "payload": {}})
    if turn["mark"] == "expired":
        same["resolution"] = "expired"
    same["events"] = events
    if turn["outcome"] in (None, "dead"):
        yield make.turn(number, at=begin, phase="start", **same)
    else:
        yield make.turn(number, at=begin, until=until, status=turn["outcome"], **same)
    # Of one that died it is the last sign of life.
    if turn["outcome"] == "dead" or (turn["outcome"] and turn["has_step"]):
        yield make.step(
            number + 1, f"s{number}", turn=number, at=begin, until=until, engagement_id=f"e{index}"
        )


@settings(
    max_examples=10,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(
    engagements=st.lists(TURNS, min_size=5, max_size=20),
    instants=st.lists(st.integers(0, 14_000), min_size=2, max_size=5),
    idle_s=st.sampled_from([60, 1800]),
)
def test_the_history_agrees_with_the_engagements_at_every_instant(
    make, engagements, instants, idle_s
):
    number = 0
    with tempfile.TemporaryDirectory() as folder:
        ledger = Path(folder, "traces.duckdb")
        kept, gone = Journal(ledger), Journal(ledger)
        for index, turns in enumerate(engagements):
            for turn in turns:
                number += 10
                turn["number"] = number
                for one in recorded(make, turn, index):
                    assert (gone if turn["outcome"] == "dead" else kept).append(one)
        gone.close()
        ingest(ledger)
        patience = timedelta(seconds=idle_s)
        with duckdb.connect(f"{ledger}.d/store.duckdb", read_only=True) as connection:
            histories = [
                connection.execute(
                    "SELECT since, until, status, abandon_reason, dropped_at "
                    "FROM status_history(?, idle_after := ?, as_of := TIMESTAMP '2100-01-01')",
                    [f"e{index}", patience],
                ).fetchall()
                for index in range(len(engagements))
            ]
            edges = {
                edge + step
                for history in histories[:3]
                for edge, *_ in history
                for step in (timedelta(0), timedelta(microseconds=-1))
            }
            for moment in [*map(at, instants), *sorted(edges)]:
                found = {
                    row[0]: row[1:]
                    for row in connection.execute(
                        "SELECT engagement_id, status, abandon_reason, dropped_at "
                        "FROM engagements(as_of := ?, idle_after := ?)",
                        [moment, patience],
                    ).fetchall()
                }
                by_history = {
                    f"e{index}": tuple(row)
                    for index, history in enumerate(histories)
                    for since, until, *row in history
                    if since <= moment and (until is None or moment < until)
                }
                assert by_history == found
                second = (moment - BEGAN) / timedelta(seconds=1)
                wanted = {
                    f"e{index}": status
                    for index, turns in enumerate(engagements)
                    if (status := status_at(turns, second, idle_s)) is not None
                }
                assert {one: row[:2] for one, row in found.items()} == wanted
            for history in histories:
                rows = [row[2:] for row in history]
                assert all(one != other for one, other in itertools.pairwise(rows))
        kept.close()
