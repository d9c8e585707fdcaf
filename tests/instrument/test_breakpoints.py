"""Breakpoints set on a graph are waits of the turn: before a step or after it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from graphs import State, chain
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph

from spanflow.instrument import loops

if TYPE_CHECKING:
    from conftest import Flow

CONFIG: Any = {"configurable": {"thread_id": "t"}}


def stopping(*names: str, **where: Any) -> Any:
    return chain(*names).builder.compile(checkpointer=InMemorySaver(), **where)


def stops(flow: Flow) -> list[tuple[str, str, list[str]]]:
    """Kind, outcome and waits of each turn, the same on its span and in its record."""
    spans = sorted(
        (s for s in flow.spans if s.attributes and "spanflow.turn.kind" in s.attributes),
        key=lambda s: s.start_time or 0,
    )
    on_spans = [
        [json.loads(str(e.attributes["spanflow.event.payload"])) for e in s.events if e.attributes]
        for s in spans
    ]
    found: list[tuple[str, str, list[str]]] = []
    rows = flow.sql(
        "SELECT turn_kind, status, events FROM records WHERE kind = 'turn' ORDER BY started_ns"
    )
    ids = dict(flow.sql("SELECT step_id, path FROM steps"))
    for (kind, outcome, events), told in zip(rows, on_spans, strict=True):
        waits = [event["payload"] for event in json.loads(events or "[]")]
        assert waits == told
        for wait in waits:
            assert wait["id"] == f"{wait['at']}:{wait['step']}"
            assert ids.get(wait.get("step_id")) == (wait["step"] if wait["at"] == "after" else None)
        found.append((kind, outcome, [wait["id"] for wait in waits]))
    assert flow.one("SELECT count(*) FROM steps WHERE status NOT IN ('completed', 'waiting')") == 0
    return found


def run_to_the_end(app: Any, **at_call: Any) -> None:
    app.invoke({"log": []}, CONFIG, **at_call)
    while app.get_state(CONFIG).next:
        app.invoke(None, CONFIG, **at_call)


def test_before_a_step(flow: Flow) -> None:
    run_to_the_end(stopping("a", "b", interrupt_before=["b"]))
    assert stops(flow) == [("new", "paused", ["before:b"]), ("resume", "completed", [])]
    assert flow.steps() == [("a", "completed"), ("b", "completed")]


def test_after_a_step(flow: Flow) -> None:
    run_to_the_end(stopping("a", "b", interrupt_after=["a"]))
    assert stops(flow) == [("new", "paused", ["after:a"]), ("resume", "completed", [])]


@pytest.mark.parametrize("at", ["before", "after"])
def test_set_at_the_call_for_every_step(flow: Flow, at: str) -> None:
    run_to_the_end(stopping("a", "b"), **{f"interrupt_{at}": "*"})
    waits = {"before": ["before:a", "before:b", None], "after": ["after:a", None]}[at]
    assert [outcome for _, outcome, _ in stops(flow)] == [
        "paused" if wait else "completed" for wait in waits
    ]
    assert [ids for *_, ids in stops(flow)] == [[wait] if wait else [] for wait in waits]


async def test_asynchronously(flow: Flow) -> None:
    app = stopping("a", "b", interrupt_before=["b"], interrupt_after=["a"])
    await app.ainvoke({"log": []}, CONFIG)
    await app.ainvoke(None, CONFIG)
    assert next(told[1:] for told in stops(flow)) == ("paused", ["after:a"])


def test_streamed(flow: Flow) -> None:
    app = stopping("a", "b", interrupt_before=["b"])
    list(app.stream({"log": []}, CONFIG, stream_mode="updates"))
    assert stops(flow) == [("new", "paused", ["before:b"])]


def test_nothing_waits_after_the_last_step(flow: Flow) -> None:
    """LangGraph stops there as well, with nothing left to go on with."""
    app = stopping("a", "b", interrupt_after=["b"])
    app.invoke({"log": []}, CONFIG)
    assert app.get_state(CONFIG).next == ()
    assert stops(flow) == [("new", "completed", [])]


def test_parallel_steps_are_one_wait_each(flow: Flow) -> None:
    builder = StateGraph(State)
    for name in "abc":
        builder.add_node(name, lambda state: {"log": []})
        builder.add_edge(START, name)
    builder.add_node("d", lambda state: {"log": []})
    builder.add_edge(["a", "b"], "d")
    builder.add_edge("d", END)
    app = builder.compile(checkpointer=InMemorySaver(), interrupt_after=["a", "b"])
    app.invoke({"log": []}, CONFIG)
    [(_, outcome, waits)] = stops(flow)
    assert (outcome, sorted(waits)) == ("paused", ["after:a", "after:b"])


@pytest.mark.parametrize(
    ("where", "wait"),
    [({"interrupt_before": ["y"]}, "before:sub/y"), ({"interrupt_after": ["x"]}, "after:sub/x")],
)
def test_in_a_subgraph_the_steps_around_it_wait(flow: Flow, where: Any, wait: str) -> None:
    builder = StateGraph(State)
    builder.add_node("sub", chain("x", "y").builder.compile(**where))
    builder.add_edge(START, "sub")
    app = builder.compile(checkpointer=InMemorySaver())
    app.invoke({"log": []}, CONFIG)
    assert stops(flow) == [("new", "paused", [wait])]
    assert flow.steps() == [("sub", "waiting"), ("sub/x", "completed")]
    app.invoke(None, CONFIG)
    assert stops(flow)[1] == ("resume", "completed", [])


def test_after_the_last_step_of_a_subgraph_the_step_around_it_waits(flow: Flow) -> None:
    builder = StateGraph(State)
    builder.add_node("sub", chain("x").builder.compile(interrupt_after=["x"]))
    builder.add_edge(START, "sub")
    app = builder.compile(checkpointer=InMemorySaver())
    app.invoke({"log": []}, CONFIG)
    assert app.get_state(CONFIG).next == ("sub",)
    assert stops(flow) == [("new", "paused", ["after:sub/x"])]


def test_where_the_loop_is_another_the_run_is_as_it_was(
    flow: Flow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A breakpoint still pauses; where it stands and what led to what is not known."""
    import spanflow

    spanflow.uninstrument()
    monkeypatch.setattr(loops, "wrapped_methods", list)
    spanflow.configure(ledger=flow.ledger, ingest="off")
    app = stopping("a", "b", "c", interrupt_before=["c"])
    assert app.invoke({"log": []}, CONFIG) == {"log": ["a", "b"]}
    assert stops(flow) == [("new", "paused", [])]
    assert flow.steps() == [("a", "completed"), ("b", "completed")]
    assert flow.one("SELECT count(*) FROM records WHERE triggered_by IS NOT NULL") == 0
