"""A graph goes on with an engagement that a block began: its name and goals still hold."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Annotated, Any, TypedDict

from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.types import Command, interrupt

import spanflow
from spanflow.instrument import remembered

if TYPE_CHECKING:
    import pytest
    from conftest import Flow


class State(TypedDict, total=False):
    log: Annotated[list[Any], operator.add]


def asking() -> Any:
    """Graph `ask → fin` that pauses in `ask`."""
    graph = StateGraph(State).add_node("ask", lambda _: {"log": [interrupt("ok?")]})
    graph.add_node("fin", lambda _: {"log": ["fin"]}).add_edge(START, "ask").add_edge("ask", "fin")
    return graph.compile(InMemorySaver(), name="flow")


CONFIG: Any = {"configurable": {"thread_id": "t1"}}
SHOWN = "SELECT name, status, goal, turns FROM engagements"


def test_a_graph_that_is_resumed_without_its_block(flow: Flow) -> None:
    graph = asking()
    with spanflow.engagement("desk", id="e", goals=["fin"]):
        graph.invoke({"log": []}, CONFIG)
    graph.invoke(Command(resume="y"), CONFIG)
    assert flow.sql(SHOWN) == [("desk", "completed", "fin", 2)]


def test_goals_that_are_no_steps_hold_too(flow: Flow) -> None:
    graph = asking()
    with spanflow.engagement("desk", id="e", goals=["paid"]):
        graph.invoke({"log": []}, CONFIG)
    graph.invoke(Command(resume="y"), CONFIG)
    assert flow.sql("SELECT goals FROM turns") == [(["paid"],), (["paid"],)]
    with spanflow.engagement("desk", id="e"):
        spanflow.goal("paid")
    assert flow.sql(SHOWN) == [("desk", "completed", "paid", 3)]
    # Each turn follows the last one, whoever opened it.
    assert flow.one("SELECT count(DISTINCT previous_turn_id) FROM turns") == 2


def test_what_the_runs_own_config_says_wins(flow: Flow) -> None:
    graph = asking()
    with spanflow.engagement("desk", id="e", goals=["paid"]):
        graph.invoke({"log": []}, CONFIG)
    said = {"metadata": {"spanflow_goals": ["fin"]}, "run_name": "night shift"}
    graph.invoke(Command(resume="y"), {**CONFIG, **said})
    assert flow.sql("SELECT name, goals FROM turns ORDER BY started_at") == [
        ("desk", ["paid"]),
        ("night shift", ["fin"]),
    ]
    with spanflow.engagement("desk", id="e"):
        pass
    assert flow.sql("SELECT goals FROM turns ORDER BY started_at DESC LIMIT 1") == [(["fin"],)]


def test_only_the_last_ones_are_remembered(flow: Flow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remembered, "_MOST_REMEMBERED", 3)
    with spanflow.engagement("desk", id="first", goals=["paid"]):
        pass
    for number in range(3):
        with spanflow.engagement("desk", id=f"e{number}"):
            pass
    with spanflow.engagement("desk", id="first"):
        pass
    assert flow.sql(
        "SELECT goals FROM turns WHERE engagement_id = 'first' ORDER BY started_at"
    ) == [
        (["paid"],),
        (None,),
    ]
