"""Goals decide completed or abandoned, and where the user left."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest
from graphs import State, chain
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, interrupt

import spanflow

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Flow


def shop(saver: Any = None, *, fails: bool = False) -> Any:
    def submitted(state: State) -> State:
        if fails:
            msg = "no"
            raise ValueError(msg)
        return {"log": ["submitted"]}

    builder = StateGraph(State)
    builder.add_node("compare", lambda state: {"log": ["compare"]})
    builder.add_node("submitted", submitted)
    builder.add_edge(START, "compare")
    builder.add_conditional_edges(
        "compare", lambda s: "submitted" if "buy" in s["log"] else END, ["submitted", END]
    )
    return builder.compile(checkpointer=saver)


THREAD: Any = {"configurable": {"thread_id": "t"}}


def test_a_goal_not_reached_is_abandoned(flow_with: Callable[..., Flow]) -> None:
    flow = flow_with(goals=["submitted"])
    shop().invoke({"log": []})
    assert flow.sql("SELECT status, dropped_at, goal, errors FROM engagements") == [
        ("abandoned", "compare", None, 0)
    ]
    turn = next(s for s in flow.spans if s.name.startswith("invoke_workflow"))
    assert turn.attributes is not None
    assert turn.attributes["spanflow.engagement.status"] == "abandoned"
    assert turn.attributes["spanflow.turn.dropped_at"] == "compare"
    assert turn.attributes["spanflow.turn.goals"] == ("submitted",)
    assert turn.attributes["spanflow.turn.goals_reached"] == ()


def test_on_a_thread_it_is_active_until_it_was_idle(flow_with: Callable[..., Flow]) -> None:
    flow = flow_with(goals=["submitted"])
    shop(InMemorySaver()).invoke({"log": []}, THREAD)
    assert flow.sql("SELECT status, dropped_at FROM engagements") == [("active", None)]
    later = "(now() AT TIME ZONE 'UTC' + INTERVAL 31 MINUTE)::TIMESTAMP"
    assert flow.sql(f"SELECT status, dropped_at FROM engagements(as_of := {later})") == [
        ("abandoned", "compare")
    ]


def test_a_goal_reached_completes(flow_with: Callable[..., Flow]) -> None:
    flow = flow_with(goals=["submitted"])
    shop().invoke({"log": ["buy"]})
    assert flow.sql("SELECT status, dropped_at, goal FROM engagements") == [
        ("completed", None, "submitted")
    ]
    turn = next(s for s in flow.spans if s.name.startswith("invoke_workflow"))
    assert turn.attributes is not None
    assert turn.attributes["spanflow.turn.goals_reached"] == ("submitted",)


def test_a_goal_entered_but_failed_is_not_reached(flow_with: Callable[..., Flow]) -> None:
    flow = flow_with(goals=["submitted"])
    with pytest.raises(ValueError, match="no"):
        shop(fails=True).invoke({"log": ["buy"]})
    assert flow.sql("SELECT status, dropped_at, goal, errors FROM engagements") == [
        ("failed", "submitted", None, 1)
    ]


def test_a_goal_reached_before_a_pause_still_counts_after_it(
    flow_with: Callable[..., Flow],
) -> None:
    flow = flow_with(goals=["submitted"])

    def asks(state: State) -> State:
        interrupt("happy?")
        return {"log": []}

    builder = StateGraph(State)
    builder.add_node("submitted", lambda state: {"log": []})
    builder.add_node("asks", asks)
    builder.add_node("feedback", lambda state: {"log": []})
    builder.add_edge(START, "submitted")
    builder.add_edge("submitted", "asks")
    builder.add_edge("asks", "feedback")
    app = builder.compile(checkpointer=InMemorySaver())
    app.invoke({"log": []}, THREAD)
    app.invoke(Command(resume="yes"), THREAD)
    assert flow.sql("SELECT status, dropped_at FROM engagements") == [("completed", None)]


def test_without_goals_an_ended_run_is_completed(flow: Flow) -> None:
    shop().invoke({"log": []})
    assert flow.sql("SELECT status, dropped_at FROM engagements") == [("completed", None)]


def test_goals_of_one_run(flow: Flow) -> None:
    shop().invoke({"log": []}, {"metadata": {"spanflow_goals": ["submitted"]}})
    assert flow.sql("SELECT status FROM engagements") == [("abandoned",)]


def test_goals_by_full_path_and_by_unambiguous_last_segment(flow: Flow) -> None:
    def nested() -> Any:
        builder = StateGraph(State)
        builder.add_node("sub", chain("inner"))
        builder.add_node("other", chain("inner", "unique"))
        builder.add_edge(START, "sub")
        builder.add_edge("sub", "other")
        return builder.compile()

    for goals in (["sub/inner"], ["unique"], ["inner"]):
        nested().invoke({"log": []}, {"metadata": {"spanflow_goals": goals}})
    assert flow.sql("SELECT goal, status FROM engagements ORDER BY started_at") == [
        ("sub/inner", "completed"),
        ("unique", "completed"),
        (None, "completed"),  # ambiguous: no goal of this graph
    ]


def test_a_goal_no_graph_has_is_told_once_with_the_near_miss(
    flow_with: Callable[..., Flow], caplog: pytest.LogCaptureFixture
) -> None:
    flow = flow_with(goals=["submited"])
    with caplog.at_level(logging.WARNING, "spanflow"):
        shop().invoke({"log": ["buy"]})
        shop().invoke({"log": ["buy"]})
    [line] = [r.getMessage() for r in caplog.records]
    assert "'submited'" in line
    assert "'submitted'" in line
    assert flow.sql("SELECT DISTINCT status FROM engagements") == [("completed",)]


def test_a_misspelt_goal_in_code_raises_once_the_graph_is_known(flow: Flow) -> None:
    shop().invoke({"log": []})
    with pytest.raises(ValueError, match="did you mean 'submitted'"):
        spanflow.configure(goals=["submited"], ledger=flow.ledger)
