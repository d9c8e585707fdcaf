"""Agents of other frameworks inside the nodes of a graph: retried, paused, run again."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest
from foreign import agent, chat
from graphs import State
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.types import Command, RetryPolicy, interrupt

if TYPE_CHECKING:
    from conftest import Flow


@pytest.fixture
def app() -> Any:
    """A graph with an agent in each node: one is tried again, one asks a human."""
    tries = itertools.count()

    def plan(state: State) -> State:
        with agent("helper"):
            chat(1, 1)
        return {"log": ["plan"]}

    def flaky(state: State) -> State:
        with agent("worker"):
            chat(4, 4)
            if next(tries) == 0:
                raise OSError(110, "down")
        return {"log": ["flaky"]}

    def ask(state: State) -> State:
        with agent("asker"):
            chat(2, 2)
            return {"log": [interrupt("sure?")]}

    builder = StateGraph(State)
    patience = RetryPolicy(initial_interval=0.001, retry_on=OSError)
    builder.add_node("plan", plan)
    builder.add_node("flaky", flaky, retry_policy=patience)
    builder.add_node("ask", ask)
    builder.add_edge(START, "plan")
    builder.add_edge("plan", "flaky")
    builder.add_edge("flaky", "ask")
    return builder.compile(checkpointer=InMemorySaver())


def test_they_fail_wait_and_are_run_again_as_their_nodes_do(flow: Flow, app: Any) -> None:
    config: Any = {"configurable": {"thread_id": "t"}}
    app.invoke({"log": []}, config)
    assert flow.sql("SELECT status, dropped_at FROM engagements") == [("paused", None)]
    app.invoke(Command(resume="yes"), config)
    asked = "SELECT path, status, visit, attempts, replayed, total_tokens FROM steps"
    assert flow.sql(f"{asked} ORDER BY started_at") == [
        ("plan", "completed", 1, 1, False, 2),
        ("plan/helper", "completed", 1, 1, False, 2),
        ("flaky", "completed", 1, 2, False, 16),
        ("flaky/worker", "failed", 1, 1, False, 8),
        ("flaky/worker", "completed", 2, 1, False, 8),
        ("ask", "waiting", 1, 1, False, 4),
        ("ask/asker", "waiting", 1, 1, False, 4),
        ("ask", "completed", 1, 1, True, 4),
        ("ask/asker", "completed", 1, 1, True, 4),
    ]
    assert flow.sql("SELECT status, total_tokens, errors, turns FROM engagements") == [
        ("completed", 26, 1, 2)
    ]
    errors = "SELECT path FROM events JOIN steps USING (step_id) WHERE kind = 'error'"
    assert flow.sql(errors) == [("flaky/worker",)]
    assert flow.sql("SELECT step_name, is_open FROM waits") == [("ask", False)]


def test_the_graphs_own_transitions_stay(flow: Flow, app: Any) -> None:
    app.invoke({"log": []}, {"configurable": {"thread_id": "t"}})
    ways = "SELECT from_step, to_step FROM transitions WHERE from_step NOT LIKE '%/%'"
    assert flow.sql(f"{ways} ORDER BY occurred_at") == [("plan", "flaky"), ("flaky", "ask")]
