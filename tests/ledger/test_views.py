"""Statuses, sums and drop-off as the views tell them."""

from __future__ import annotations

from inline_snapshot import snapshot

from spanflow.ledger.journal import Journal


def test_one_finished_turn_with_a_call(ledger, make):
    make.write(
        ledger,
        [
            make.turn(at=0, until=90, user_id="u1", metadata={"tier": 1}),
            make.step(2, "chat", at=1, until=80),
            make.llm(3, 2, (11, 7), at=5, until=25),
        ],
    )
    columns = (
        "engagement_id, name, status, goal, dropped_at, user_id, metadata, turns, steps, llm_calls,"
        "tool_calls, input_tokens, output_tokens, total_tokens, cost_usd, unpriced_calls,"
        "working_ms, waiting_ms, service_name"
    )
    assert make.ask(ledger, f"SELECT {columns} FROM engagements") == snapshot(
        [
            {
                "engagement_id": "e1",
                "name": "booking",
                "status": "completed",
                "goal": None,
                "dropped_at": None,
                "user_id": "u1",
                "metadata": '{"tier":1}',
                "turns": 1,
                "steps": 1,
                "llm_calls": 1,
                "tool_calls": 0,
                "input_tokens": 11,
                "output_tokens": 7,
                "total_tokens": 18,
                "cost_usd": None,
                "unpriced_calls": 1,
                "working_ms": 90.0,
                "waiting_ms": 0.0,
                "service_name": "shop",
            }
        ]
    )


def test_no_calls_spend_nothing_and_calls_without_usage_spend_the_unknown(ledger, make):
    make.write(
        ledger,
        [
            make.turn(at=0, until=9),
            make.step(2, "idle"),
            make.step(3, "asks"),
            make.llm(4, 3),
        ],
    )
    sums = "llm_calls, total_tokens, cost_usd, calls_without_usage"
    query = f"SELECT name, {sums} FROM steps ORDER BY name"
    assert [tuple(row.values()) for row in make.ask(ledger, query)] == [
        ("asks", 1, None, None, 1),
        ("idle", 0, 0, 0.0, 0),
    ]
    [row] = make.ask(ledger, "SELECT total_tokens, calls_without_usage FROM engagements")
    assert row == {"total_tokens": None, "calls_without_usage": 1}


def test_a_turn_without_calls_does_not_hide_that_another_does_not_know(ledger, make):
    make.write(
        ledger,
        [
            make.turn(1, at=0, until=9),
            make.step(2, "asks", turn=1),
            make.llm(3, 2, turn=1),
            make.turn(4, at=20, until=30),
        ],
    )
    assert make.ask(ledger, "SELECT total_tokens FROM engagements") == [{"total_tokens": None}]


def test_a_nested_step_counts_in_the_steps_around_it_and_once_in_the_turn(ledger, make):
    make.write(
        ledger,
        [
            make.turn(at=0, until=90),
            make.step(2, "outer", at=1, until=2),
            make.step(3, "sub", at=3, until=80),
            make.step(4, "s1", path="sub/s1", parent_step_id=3, at=4, until=5),
            make.step(5, "s2", path="sub/s2", parent_step_id=3, at=6, until=7),
            make.llm(6, 4, (7, 3)),
            make.tool(7, 5),
        ],
    )
    query = "SELECT path, total_tokens, tool_calls FROM steps ORDER BY started_at"
    assert [tuple(row.values()) for row in make.ask(ledger, query)] == [
        ("outer", 0, 0),
        ("sub", 10, 1),
        ("sub/s1", 10, 0),
        ("sub/s2", 0, 1),
    ]
    assert make.ask(ledger, "SELECT total_tokens, tool_calls FROM turns") == [
        {"total_tokens": 10, "tool_calls": 1}
    ]


def test_a_circle_of_parents_ends(ledger, make):
    make.write(
        ledger,
        [
            make.turn(),
            make.step(2, "a", parent_step_id=3),
            make.step(3, "b", parent_step_id=2),
            make.llm(4, 2, (1, 1)),
        ],
    )
    assert make.ask(ledger, "SELECT total_tokens FROM steps") == [{"total_tokens": 2}] * 2
    assert make.ask(ledger, "SELECT total_tokens FROM turns") == [{"total_tokens": 2}]


def test_a_call_reported_twice_counts_once(ledger, make):
    make.write(
        ledger,
        [
            make.turn(),
            make.step(2, "a", at=0, until=50),
            make.llm(3, 2, (10, 5), at=1, until=40),
            make.llm(4, 2, (10, 5), at=2, until=39, scope="other"),
            make.llm(
                5, 2, (10, 5), at=3, until=38, scope="provider", parent_span_id=3, source="exporter"
            ),
            make.tool(6, 2, at=41, until=45),
            make.tool(7, 2, at=41, until=45, scope="other"),
        ],
    )
    rows = make.ask(
        ledger, "SELECT span_id, counted, not_counted_because FROM llm_calls ORDER BY span_id"
    )
    assert sum(row["counted"] for row in rows) == 1
    assert {row["not_counted_because"] for row in rows} == {None, "duplicate", "nested"}
    [turn] = make.ask(ledger, "SELECT total_tokens, llm_calls, tool_calls FROM turns")
    assert turn == {"total_tokens": 15, "llm_calls": 1, "tool_calls": 1}
    assert len(make.ask(ledger, "SELECT * FROM events")) == 2


def test_events_stand_in_their_real_order(ledger, make):
    make.write(
        ledger,
        [
            make.turn(
                events=[{"kind": "goal", "name": "done", "at_ns": make.T0 + 90 * make.MS}], until=99
            ),
            make.step(
                2,
                "a",
                until=50,
                events=[
                    {"kind": "log", "name": "hi", "at_ns": make.T0 + 15 * make.MS, "payload": [1]}
                ],
            ),
            make.llm(3, 2, (1, 1), at=10),
            make.tool(4, 2, at=20),
            make.llm(5, 2, (1, 1), at=30),
        ],
    )
    query = "SELECT kind, name, payload FROM events ORDER BY occurred_at"
    found = make.ask(ledger, query)
    assert [row["kind"] for row in found] == ["llm_call", "log", "tool_call", "llm_call", "goal"]
    assert found[1]["payload"] == "[1]"


def test_a_wait_is_open_until_the_next_turn_begins(ledger, make):
    payload = {"id": "i", "payload": {"card": 1, "awaiting": "confirm?"}}
    ask = {"kind": "wait", "name": "wait", "at_ns": make.T0 + 9 * make.MS, "payload": payload}
    make.write(
        ledger,
        [
            make.turn(1, at=0, until=10, status="paused"),
            make.step(2, "qualify", turn=1, at=1, until=10, status="waiting", events=[ask]),
        ],
    )
    query = "SELECT step_name, label, payload, waited_ms, resolution, is_open FROM waits"
    assert make.ask(ledger, query) == [
        {
            "step_name": "qualify",
            "label": "confirm?",
            "payload": '{"card":1,"awaiting":"confirm?"}',
            "waited_ms": None,
            "resolution": None,
            "is_open": True,
        }
    ]
    at = "TIMESTAMP '2026-09-21 14:14:00'"
    assert make.ask(ledger, f"SELECT status, dropped_at FROM engagements(as_of := {at})") == [
        {"status": "paused", "dropped_at": None}
    ]
    later = f"{at} + INTERVAL 31 MINUTE"
    assert make.ask(
        ledger, f"SELECT status, dropped_at, abandon_reason FROM engagements(as_of := {later})"
    ) == [{"status": "abandoned", "dropped_at": "qualify", "abandon_reason": "left"}]
    make.write(ledger, [make.turn(4, at=1000, until=1010, turn_kind="resume", answers=["i"])])
    [wait] = make.ask(ledger, query)
    assert (wait["waited_ms"], wait["resolution"], wait["is_open"]) == (990.0, "answered", False)
    assert make.ask(ledger, "SELECT status, waiting_ms, working_ms FROM engagements") == [
        {"status": "completed", "waiting_ms": 990.0, "working_ms": 20.0}
    ]
    assert make.ask(ledger, "SELECT previous_turn_id FROM turns ORDER BY started_at") == [
        {"previous_turn_id": None},
        {"previous_turn_id": make.ident(1)},
    ]


def test_transitions_follow_supersteps_within_one_level(ledger, make):
    make.write(
        ledger,
        [
            make.turn(until=99),
            make.step(2, "a", superstep=1, at=1),
            make.step(3, "b", superstep=2, at=3),
            make.step(4, "c", superstep=2, at=3),
            make.step(5, "d", superstep=3, at=5),
            make.step(6, "x", path="b/x", superstep=1, parent_step_id=3, at=3),
            make.step(7, "y", path="b/y", superstep=2, parent_step_id=3, at=4),
        ],
    )
    query = "SELECT from_step || '>' || to_step AS t FROM transitions ORDER BY t"
    assert [row["t"] for row in make.ask(ledger, query)] == ["a>b", "a>c", "b/x>b/y", "b>d", "c>d"]


def test_a_call_outside_any_engagement_is_in_llm_calls_only(ledger, make):
    make.write(ledger, [make.llm(3, None, (10, 20), turn=None, caller="app.py:3")])
    assert make.ask(ledger, "SELECT caller, total_tokens, counted FROM llm_calls") == [
        {"caller": "app.py:3", "total_tokens": 30, "counted": True}
    ]
    assert make.ask(ledger, "FROM engagements") == make.ask(ledger, "FROM turns") == []


def test_the_failed_step_is_where_it_was_left(ledger, make):
    error = {
        "kind": "error",
        "name": "ValueError",
        "at_ns": make.T0,
        "payload": {"message": "boom"},
    }
    make.write(
        ledger,
        [
            make.turn(until=30, status="failed", error_type="ValueError", goals=["done"]),
            make.step(2, "ok", at=1),
            make.step(
                3,
                "boom",
                at=5,
                status="failed",
                error_type="ValueError",
                events=[error],
                goal="done",
            ),
        ],
    )
    assert make.ask(ledger, "SELECT status, goal, dropped_at, errors FROM engagements") == [
        {"status": "failed", "goal": None, "dropped_at": "boom", "errors": 1}
    ]


def test_records_of_an_unknown_step_are_kept_and_counted(ledger, make):
    make.write(ledger, [make.turn(), make.llm(3, 99, (1, 1))])
    assert make.ask(ledger, "SELECT step_name, total_tokens FROM llm_calls") == [
        {"step_name": None, "total_tokens": 2}
    ]
    assert make.ask(
        ledger, "SELECT count FROM diagnostics WHERE name = 'unknown_step_records'"
    ) == [{"count": 1}]


def test_a_graph_version_is_kept_once(ledger, make):
    graph = {"kind": "graph", "graph_version": "ab" * 8, "name": "g", "nodes": ["a"], "edges": []}
    make.write(ledger, [graph, graph])
    make.write(ledger, [graph])
    assert make.ask(ledger, "SELECT graph_version, nodes FROM graphs") == [
        {"graph_version": "ab" * 8, "nodes": '["a"]'}
    ]


def test_a_journal_that_nobody_can_read_says_nothing(ledger):
    journal = Journal(ledger)
    assert (journal.written, journal.lost) == (0, 0)
    assert not ledger.parent.joinpath("traces.duckdb.d").exists()


def test_what_a_late_step_changes_in_rows_already_stored_is_written(ledger, make):
    make.write(ledger, [make.turn(phase="start"), make.llm(5, 3, (2, 3)), make.step(9, "other")])
    assert make.ask(ledger, "SELECT step_name FROM llm_calls") == [{"step_name": None}]
    make.write(
        ledger, [make.step(2, "outer"), make.step(3, "in", path="outer/in", parent_step_id=2)]
    )
    assert make.ask(ledger, "SELECT step_name FROM llm_calls") == [{"step_name": "in"}]
    make.write(ledger, [make.llm(6, 3, (10, 10))])
    assert make.ask(ledger, "SELECT path, total_tokens FROM steps ORDER BY path") == [
        {"path": "other", "total_tokens": 0},
        {"path": "outer", "total_tokens": 25},
        {"path": "outer/in", "total_tokens": 25},
    ]


def test_what_an_app_says_of_a_lone_call_is_asked_as_json(make, ledger):
    said = {"spanflow.call.metadata": '{"job": "nightly", "of": [1, "2"]}'}
    torn = {"spanflow.call.metadata": '{"job": "night'}
    make.write(
        ledger,
        [
            make.llm(3, None, (10, 20), turn=None, attributes=said),
            make.llm(4, None, (10, 20), turn=None, attributes=torn),
            make.llm(5, None, (10, 20), turn=None),
        ],
    )
    rows = make.ask(ledger, "SELECT metadata->>'job' AS job FROM llm_calls ORDER BY span_id")
    assert [row["job"] for row in rows] == ["nightly", None, None]


def test_a_turn_that_reached_no_goal_reached_none_at_no_time(ledger, make):
    make.write(
        ledger,
        [
            make.turn(1, at=0, until=9, goals=["pay"]),
            make.turn(
                2,
                at=10,
                until=30,
                goals=["pay"],
                events=[{"kind": "goal", "name": "pay", "at_ns": make.T0 + 20 * make.MS}],
            ),
        ],
    )
    rows = make.ask(ledger, "SELECT goal, epoch_ns(goal_at) AS at FROM turns ORDER BY started_at")
    assert rows == [{"goal": None, "at": None}, {"goal": "pay", "at": make.T0 + 20 * make.MS}]
    assert make.ask(ledger, "SELECT status, goal FROM engagements") == [
        {"status": "completed", "goal": "pay"}
    ]
