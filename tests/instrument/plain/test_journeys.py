"""The same journeys through a graph and in plain Python give the same numbers."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any

import pytest
from graphs import State, llm
from langgraph.graph import END, START, StateGraph

import spanflow

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Flow

WHO = {"user_id": "ada", "session_id": "s-1"}
EXTRACTED = {"budget": 95_000, "area": "Shibuya"}
STEPS = """SELECT name, status, is_global, tools_available, total_tokens, llm_calls, tool_calls
    FROM steps ORDER BY started_at"""
TOLD = """SELECT name, status, goal, dropped_at, user_id, session_id, metadata, turns, steps,
    llm_calls, tool_calls, errors, input_tokens, output_tokens, total_tokens FROM engagements"""


def switches(flow: Flow) -> list[Any]:
    rows = flow.sql("SELECT payload FROM events WHERE kind = 'intent_switch'")
    return [json.loads(payload) for (payload,) in rows]


def greet() -> None:
    llm(30, 10).invoke("hello")


def qualify() -> None:
    spanflow.tool_call("look_up", result={"hits": 3})
    llm(64, 20).invoke("hello")
    spanflow.extraction("BudgetInfo", EXTRACTED)


def search() -> None:
    llm(100, 25).invoke("hello")


def escalate() -> None:
    spanflow.log("handed over")


WORK: dict[str, Callable[[], None]] = {
    "greet": greet,
    "qualify": qualify,
    "search": search,
    "escalate": escalate,
}


def as_graph(*names: str, told: dict[str, Any]) -> None:
    """Each step is a node; a router leads to the last."""
    builder = StateGraph(State)
    for name in names:

        def node(state: State, work: Callable[[], None] = WORK[name]) -> State:
            work()
            return {"log": ["x"]}

        builder.add_node(name, node)
    builder.add_edge(START, names[0])
    for before, after in itertools.pairwise(names):
        builder.add_conditional_edges(before, lambda state, to=after: to, [after])
    builder.add_edge(names[-1], END)
    builder.compile(name="search").invoke({"log": []}, {"metadata": {**WHO, **told}})


def as_plain(*names: str, told: dict[str, Any]) -> None:
    """Each step is a block."""
    tools = told.get("spanflow_step_tools", {})
    switching = told.get("spanflow_global_steps", ())
    mine = {key: value for key, value in told.items() if not key.startswith("spanflow_")}
    with spanflow.engagement("search", **WHO, metadata=mine):
        for name in names:
            with spanflow.step(name, tools=tools.get(name), is_global=name in switching):
                WORK[name]()


both = pytest.mark.parametrize("run", [as_graph, as_plain], ids=["graph", "plain"])


@both
def test_two_steps_and_a_tool(flow: Flow, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(WORK, "greet", lambda: None)
    monkeypatch.setitem(WORK, "search", lambda: spanflow.tool_call("search_db", result={"hits": 3}))
    run("greet", "search", told={"tier": "pro", "spanflow_step_tools": {"search": ["search_db"]}})
    assert flow.sql(STEPS) == [
        ("greet", "completed", False, None, 0, 0, 0),
        ("search", "completed", False, ["search_db"], 0, 0, 1),
    ]
    assert flow.sql(TOLD) == [
        ("search", "completed", None, None, "ada", "s-1", '{"tier":"pro"}', 1, 2, 0, 1, 0, 0, 0, 0)
    ]
    assert flow.sql("SELECT step_name, name, status FROM tool_calls") == [
        ("search", "search_db", "ok")
    ]
    assert flow.sql("SELECT from_step, to_step FROM transitions") == [("greet", "search")]
    assert switches(flow) == []


@both
def test_tokens_step_by_step_and_events_in_their_order(flow: Flow, run: Any) -> None:
    run("greet", "qualify", "search", told={})
    assert flow.sql(STEPS) == [
        ("greet", "completed", False, None, 40, 1, 0),
        ("qualify", "completed", False, None, 84, 1, 1),
        ("search", "completed", False, None, 125, 1, 0),
    ]
    assert flow.sql(TOLD) == [
        ("search", "completed", None, None, "ada", "s-1", None, 1, 3, 3, 1, 0, 194, 55, 249)
    ]
    assert flow.sql(
        "SELECT e.kind, e.name FROM events e JOIN steps s USING (step_id)"
        " WHERE s.name = 'qualify' ORDER BY e.occurred_at"
    ) == [("tool_call", "look_up"), ("llm_call", "fake-1"), ("extraction", "BudgetInfo")]
    payload = json.loads(flow.one("SELECT payload FROM events WHERE kind = 'extraction'"))
    assert payload == {"schema": "BudgetInfo", "valid": True, "values": EXTRACTED}
    assert switches(flow) == []


def settings_of(run: Any, flow_with: Callable[..., Flow], *names: str) -> Flow:
    """A graph's global steps are settings; a plain step says itself that it is one."""
    return flow_with(global_steps=names) if run is as_graph else flow_with()


@both
def test_a_router_to_a_global_step(flow_with: Callable[..., Flow], run: Any) -> None:
    flow = settings_of(run, flow_with, "escalate")
    run("greet", "qualify", "escalate", told={"spanflow_global_steps": ["escalate"]})
    assert flow.sql(STEPS) == [
        ("greet", "completed", False, None, 40, 1, 0),
        ("qualify", "completed", False, None, 84, 1, 1),
        ("escalate", "completed", True, None, 0, 0, 0),
    ]
    assert flow.one("SELECT total_tokens FROM engagements") == 124
    assert switches(flow) == [{"from": "qualify", "to": "escalate"}]


@both
def test_a_global_step_as_the_entry(flow_with: Callable[..., Flow], run: Any) -> None:
    flow = settings_of(run, flow_with, "escalate")
    run("escalate", "search", told={"spanflow_global_steps": ["escalate"]})
    assert switches(flow) == [{"from": None, "to": "escalate"}]


@both
def test_funnels_are_the_same(flow: Flow, run: Any) -> None:
    for _ in range(3):
        run("greet", "qualify", "search", told={})
    run("greet", "qualify", told={})
    run("greet", told={})
    assert flow.sql(
        "SELECT step, reached, step_rate, total_tokens FROM funnel(['greet', 'qualify', 'search'])"
    ) == [("greet", 5, 0.8, 200), ("qualify", 4, 0.75, 336), ("search", 3, None, 375)]
