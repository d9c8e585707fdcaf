"""What an app says of its own run: that the user gave up."""

from __future__ import annotations

import asyncio
import doctest
import json
import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
from graphs import State, chain
from langgraph.graph import START, StateGraph

import spanflow
from spanflow import guard
from spanflow.capture import marks

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Flow


def marked(flow: Flow) -> list[Any]:
    """The marks' payloads in order, as the turn's span and its record both have them."""
    [turn] = [s for s in flow.spans if s.attributes and "spanflow.turn.kind" in s.attributes]
    on_span: list[Any] = [
        json.loads(str((event.attributes or {}).get("spanflow.event.payload", "null")))
        for event in turn.events
        if event.name == "gave_up"
    ]
    rows = flow.sql(
        "SELECT payload, step_id FROM events WHERE kind = 'gave_up' ORDER BY occurred_at"
    )
    assert [json.loads(payload or "null") for payload, _ in rows] == on_span
    return on_span


def giving_up(*reasons: Any) -> Any:
    def node(state: State) -> State:
        for reason in reasons:
            spanflow.gave_up(*reason)
        return {"log": ["x"]}

    return node


def test_a_mark_is_an_event_of_the_turn(flow: Flow) -> None:
    chain("a", "b", a=giving_up(("too expensive",), ())).invoke({"log": []})
    assert marked(flow) == [{"reason": "too expensive"}, None]


async def test_a_mark_deep_inside_is_the_turns(flow: Flow) -> None:
    async def node(state: State) -> State:
        await asyncio.to_thread(spanflow.gave_up, "from a thread")
        return {"log": []}

    builder = StateGraph(State)
    builder.add_node("sub", chain("deep", deep=node))
    builder.add_edge(START, "sub")
    await builder.compile().ainvoke({"log": []})
    assert marked(flow) == [{"reason": "from a thread"}]


@pytest.mark.parametrize("reason", ["", "\0\ud800é", "🙈" * 9_999, "\x01" * 9_999, 7, object()])
def test_any_reason_will_do(flow: Flow, reason: Any) -> None:
    chain("a", a=giving_up((reason,))).invoke({"log": []})
    [payload] = marked(flow)
    assert isinstance(payload["reason"], str)
    assert len(payload["reason"]) <= 256


def test_a_reason_is_redacted(flow_with: Callable[..., Flow]) -> None:
    flow = flow_with(redact="email")
    chain("a", a=giving_up(("asked jane.doe@example.com",))).invoke({"log": []})
    [payload] = marked(flow)
    assert "jane.doe" not in payload["reason"]


def test_outside_a_run_nothing_happens(flow: Flow) -> None:
    spanflow.gave_up("before")
    chain("a").invoke({"log": []})
    spanflow.gave_up("after")
    guard.set_strict(False)
    chain("a").invoke({"log": []}, {"metadata": {"spanflow_enabled": False}})
    assert flow.sql("SELECT * FROM events WHERE kind = 'gave_up'") == []


def test_a_mark_after_its_turn_is_nobodys(flow: Flow) -> None:
    go, done = threading.Event(), threading.Event()

    def late() -> None:
        go.wait(10)
        spanflow.gave_up("late")
        done.set()

    def node(state: State) -> State:
        import contextvars

        threading.Thread(target=contextvars.copy_context().run, args=(late,)).start()
        return {"log": []}

    chain("a", a=node).invoke({"log": []})
    go.set()
    assert done.wait(10)
    assert flow.sql("SELECT * FROM events WHERE kind = 'gave_up'") == []


def test_a_mark_that_cannot_be_made_does_not_stop_the_app(
    flow: Flow, monkeypatch: pytest.MonkeyPatch
) -> None:
    guard.set_strict(False)

    def broken(*_: Any) -> str:
        raise RuntimeError

    monkeypatch.setattr("spanflow.capture.payload.free_text", broken)
    assert chain("a", a=giving_up(("x",))).invoke({"log": []}) == {"log": ["x"]}
    assert guard.counts() == {"marks.gave_up": 1}


def test_where_nothing_is_captured_a_mark_loads_nothing() -> None:
    code = """
import sys, spanflow
spanflow.gave_up("nobody listens")
heavy = {"langgraph", "opentelemetry", "pydantic", "duckdb", "orjson", "wrapt"}
print(sorted(heavy & {name.partition(".")[0] for name in sys.modules}))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={**os.environ, "SPANFLOW_LEDGER": ""},
    )
    assert done.stdout.strip() == "[]"


def test_its_example_runs() -> None:
    [found] = [
        test for test in doctest.DocTestFinder().find(marks.gave_up, "gave_up") if test.examples
    ]
    assert doctest.DocTestRunner().run(found).failed == 0
