"""Turns, nested graphs and steps as they are opened and closed, without any framework."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry import trace
from opentelemetry.trace import SpanContext, TraceFlags

from spanflow.capture import scope as scopes
from spanflow.capture.events import Event
from spanflow.capture.frame import Nested
from spanflow.capture.identity import GraphShape, Identity
from spanflow.capture.runtime import Runtime
from spanflow.capture.turn import Turn
from spanflow.ledger.journal import journal_for
from spanflow.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Flow

SHAPE = GraphShape("0123456789abcdef", "booking", paths=("ask", "sub", "sub/ask", "pay"))


@pytest.fixture
def runtime(flow: Flow) -> Runtime:
    """A runtime of our own, on the ledger of the test."""
    return Runtime(Settings(), journal_for(flow.ledger), "1")


@pytest.fixture
def begin(runtime: Runtime) -> Callable[..., Turn]:
    def start(**who: Any) -> Turn:
        return Turn(runtime, SHAPE, Identity(**{"engagement_id": "e", "name": "n", **who}))

    return lambda **who: start(kind=who.pop("kind", "new"), **who)


def last(flow: Flow) -> dict[str, Any]:
    return dict(flow.spans[-1].attributes or {})


# -- shapes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("pay",), {"pay": "pay"}),
        (("ask",), {"ask": "ask"}),  # a whole path before a last segment
        (("sub/ask",), {"sub/ask": "sub/ask"}),
        (("pay", "ask"), {"pay": "pay", "ask": "ask"}),
        (("nothing",), {}),
        ((), {}),
    ],
)
def test_names_mean_a_path_or_an_unambiguous_last_segment(
    names: tuple[str, ...], expected: dict[str, str]
) -> None:
    assert SHAPE.resolve(names) == expected


def test_an_ambiguous_last_segment_means_nothing() -> None:
    shape = GraphShape("0" * 16, "g", paths=("a/ask", "b/ask", "c/pay"))
    assert shape.resolve(("ask", "pay")) == {"c/pay": "pay"}


# -- steps -----------------------------------------------------------------------------------------


def test_a_step_begins_runs_and_ends(flow: Flow, begin: Callable[..., Turn]) -> None:
    turn = begin()
    step = turn.start_step("ask", "key-1", superstep=1)
    assert scopes.find(turn.span_id, step.span_id) is step
    step.end("completed")
    assert scopes.find(turn.span_id, step.span_id) is turn
    step.end("failed")  # ended is ended
    turn.close("completed")
    turn.close("failed")
    assert scopes.find(turn.span_id, step.span_id) is None
    assert flow.sql("SELECT path, visit, attempts, status FROM steps") == [
        ("ask", 1, 1, "completed")
    ]
    assert flow.sql("SELECT outcome FROM turns") == [("completed",)]
    assert [span.name for span in flow.spans] == ["step ask", "invoke_workflow booking"]


def test_an_attempt_is_taken_up_again_under_its_key(flow: Flow, begin: Callable[..., Turn]) -> None:
    turn = begin()
    first = turn.start_step("ask", "key", superstep=1)
    first.fail_attempt("failed", OSError("down"))
    assert turn.start_step("ask", "key", superstep=1) is first
    first.fail_attempt("failed", OSError("down again"))
    again = turn.start_step("ask", "key", superstep=1)
    again.end("completed")
    turn.close("completed")
    assert flow.sql("SELECT visit, attempts, status, error_type FROM steps") == [
        (1, 3, "completed", None)
    ]
    events = flow.sql("SELECT payload FROM events WHERE kind = 'error' ORDER BY occurred_at")
    assert [json.loads(payload)["attempt"] for (payload,) in events] == [1, 2]
    assert flow.one("SELECT status FROM engagements") == "completed"


def test_a_parked_step_ends_when_it_failed_and_not_when_that_was_noticed(
    flow: Flow, begin: Callable[..., Turn]
) -> None:
    turn = begin()
    failed = turn.start_step("ask", "one", superstep=1)
    failed.fail_attempt("failed", OSError("down"))
    parked_at = failed.ended_ns
    turn.start_step("pay", "two", superstep=2).end("completed")
    turn.close("completed")
    rows = flow.sql("SELECT name, status, ended_ns FROM spans WHERE kind = 'step' ORDER BY name")
    assert rows[0] == ("ask", "failed", parked_at)
    assert flow.spans[0].name == "step ask"
    assert flow.spans[0].end_time == parked_at


def test_what_is_open_when_the_turn_ends_is_cancelled(
    flow: Flow, begin: Callable[..., Turn]
) -> None:
    turn = begin()
    turn.start_step("ask", "one")
    parked = turn.start_step("pay", "two")
    parked.fail_attempt("failed", ValueError("no"))
    turn.close("failed", ValueError("no"))
    assert flow.sql("SELECT path, status FROM steps ORDER BY path") == [
        ("ask", "cancelled"),
        ("pay", "failed"),
    ]
    assert flow.sql("SELECT dropped_at, error_type, errors FROM turns") == [
        ("pay", "ValueError", 1)
    ]


def test_an_error_outside_any_step_is_an_event_of_the_turn(
    flow: Flow, begin: Callable[..., Turn]
) -> None:
    begin().close("failed", RecursionError("too deep"))
    assert flow.sql("SELECT kind, name, step_id FROM events") == [("error", "RecursionError", None)]
    assert flow.spans[0].status.status_code is trace.StatusCode.ERROR


def test_paths_and_visits_follow_the_parent(flow: Flow, begin: Callable[..., Turn]) -> None:
    turn = begin()
    outer = turn.start_step("sub", "o")
    for number in range(3):
        turn.start_step("ask", f"i{number}", parent=outer).end("completed")
    turn.start_step("ask", "top").end("completed")
    outer.end("completed")
    turn.close("completed")
    assert flow.sql("SELECT path, visit FROM steps ORDER BY path, visit") == [
        ("ask", 1),
        ("sub", 1),
        ("sub/ask", 1),
        ("sub/ask", 2),
        ("sub/ask", 3),
    ]
    assert flow.tree() == [
        ["invoke_workflow booking", [["step sub", ["step ask"] * 3], "step ask"]]
    ]


@pytest.mark.parametrize("name", ["x" * 5_000, "エ\0🎌", "a\ud800"])
def test_any_name_is_a_step(flow: Flow, begin: Callable[..., Turn], name: str) -> None:
    turn = begin()
    turn.start_step(name, "k").end("completed")
    turn.close("completed")
    [(path,)] = flow.sql("SELECT path FROM steps")
    assert path
    assert len(path) <= 512


def test_events_are_bounded(flow: Flow, begin: Callable[..., Turn]) -> None:
    turn = begin()
    step = turn.start_step("ask", "k")
    for number in range(1_500):
        step.add_event(Event("log", "tick", step.started_ns + number, {"n": number}))
    step.end("completed")
    turn.close("completed")
    assert flow.one("SELECT count(*) FROM events") == 1_000


def test_an_event_too_long_for_a_span_is_whole_in_the_ledger(
    flow: Flow, begin: Callable[..., Turn]
) -> None:
    turn = begin()
    step = turn.start_step("ask", "k")
    step.add_event(Event("log", "said", step.started_ns, {"text": "x" * 5_000}))
    step.end("completed")
    turn.close("completed")
    [(payload,)] = flow.sql("SELECT payload FROM events")
    assert json.loads(payload) == {"text": "x" * 5_000}
    [event] = flow.spans[0].events
    assert dict(event.attributes or {}) == {
        "spanflow.event.kind": "log",
        "spanflow.payload.truncated": True,
        "spanflow.payload.original_size": 5_011,
    }


# -- outcomes --------------------------------------------------------------------------------------

PREVIEWS = [
    # goals, on a thread, goal reached, outcome -> status, dropped at
    ((), False, False, "completed", "completed", None),
    ((), False, False, "paused", "paused", None),
    ((), False, False, "failed", "failed", "pay"),
    ((), False, False, "left", "abandoned", "pay"),
    ((), True, False, "cancelled", "active", None),
    (("ask",), False, False, "completed", "abandoned", "pay"),
    (("ask",), True, False, "completed", "active", None),
    (("pay",), False, True, "completed", "completed", None),
    (("pay",), False, True, "failed", "completed", None),
    (("pay",), True, True, "paused", "completed", None),
    (("elsewhere",), False, False, "completed", "completed", None),
]


@pytest.mark.parametrize("case", PREVIEWS, ids=str)
def test_the_turns_span_says_what_the_ledger_says(
    flow: Flow, begin: Callable[..., Turn], case: tuple[Any, ...]
) -> None:
    goals, on_thread, reached, outcome, status, dropped_at = case
    turn = begin(goals=goals, on_thread=on_thread)
    turn.start_step("pay", "k").end("completed")
    turn.close(outcome, ValueError("no") if outcome == "failed" else None)
    said = last(flow)
    assert said["spanflow.turn.outcome"] == outcome
    assert said["spanflow.engagement.status"] == status
    assert said.get("spanflow.turn.dropped_at") == dropped_at
    assert said.get("spanflow.turn.goals_reached", ()) == (goals if reached else ())
    assert flow.sql("SELECT status, dropped_at FROM engagements") == [(status, dropped_at)]


@pytest.mark.parametrize(
    "who",
    [
        {"user_id": "u", "session_id": "s", "conversation_id": "c", "kind": "message"},
        {"metadata": {"tier": "gold", "n": 1, "flag": True}},
        {"goals": ("pay",), "global_steps": ("ask",), "step_tools": {"ask": ("search",)}},
    ],
)
def test_the_identity_is_on_the_span_and_in_the_ledger(
    flow: Flow, begin: Callable[..., Turn], who: dict[str, Any]
) -> None:
    turn = begin(**who)
    turn.start_step("ask", "k").end("completed")
    turn.close("completed")
    keys = {"user_id": "user.id", "session_id": "session.id"}
    keys["conversation_id"] = "gen_ai.conversation.id"
    for name, key in keys.items():
        assert last(flow).get(key) == who.get(name)
        assert flow.one(f"SELECT {name} FROM turns") == who.get(name)
    metadata = flow.one("SELECT metadata FROM turns")
    assert (json.loads(metadata) if metadata else {}) == who.get("metadata", {})
    assert flow.one("SELECT kind FROM turns") == who.get("kind", "new")
    assert flow.one("SELECT is_global FROM steps") == ("global_steps" in who)
    assert flow.one("SELECT tools_available FROM steps") == (
        ["search"] if "step_tools" in who else None
    )


def test_a_turn_is_linked_to_the_one_before(flow: Flow, begin: Callable[..., Turn]) -> None:
    previous = SpanContext(7, 9, is_remote=True, trace_flags=TraceFlags(1))
    begin(previous=previous).close("completed")
    [link] = flow.spans[0].links
    assert (link.context.trace_id, link.context.span_id) == (7, 9)
    [(links,)] = flow.sql("SELECT links FROM spans WHERE kind = 'turn'")
    assert json.loads(links) == [
        {"trace_id": f"{7:032x}", "span_id": f"{9:016x}", "kind": "previous_turn"}
    ]


# -- nested graphs ---------------------------------------------------------------------------------


def test_a_nested_graph_fails_inside_a_turn_that_goes_on(
    flow: Flow, runtime: Runtime, begin: Callable[..., Turn]
) -> None:
    turn = begin()
    step = turn.start_step("sub", "k")
    inner = Nested(runtime, GraphShape("f" * 16, "inner"), step.scope)
    inner.start_step("deep", "d").fail_attempt("failed", ValueError("no"))
    inner.close("failed", ValueError("no"))
    inner.close("completed")
    step.end("completed")
    turn.close("completed")
    assert flow.sql("SELECT name, status FROM spans WHERE kind = 'workflow'") == [
        ("inner", "failed")
    ]
    assert flow.sql("SELECT path, status FROM steps ORDER BY path") == [
        ("sub", "completed"),
        ("sub/deep", "failed"),
    ]
    assert flow.one("SELECT status FROM engagements") == "completed"


def test_a_nested_graph_needs_a_live_turn(runtime: Runtime) -> None:
    with pytest.raises(ValueError, match="live turn"):
        Nested(runtime, SHAPE, scopes.OFF)


def test_without_a_ledger_spans_are_made_all_the_same(flow: Flow) -> None:
    turn = Turn(Runtime(Settings(), None, "1"), SHAPE, Identity("e", "n", "new"))
    turn.start_step("ask", "k").end("completed")
    turn.close("completed")
    assert [span.name for span in flow.spans] == ["step ask", "invoke_workflow booking"]
    assert not flow.ledger.with_name("traces.duckdb.d").exists()
