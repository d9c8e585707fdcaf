"""What a graph's config says holds for it inside a block of plain code as well."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from feeds import captured, exported, filed, rows
from graphs import State, chain
from langchain_core.messages import AIMessage
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode

import spanflow

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Flow

WHO = "SELECT status, goal, user_id, session_id, metadata FROM engagements"
STEPS = "SELECT path, is_global, tools_available FROM steps ORDER BY started_at"
SAID: dict[str, Any] = {
    "user_id": "ada",
    "session_id": "s9",
    "plan": "pro",
    "spanflow_goals": ["done"],
    "spanflow_global_steps": ["done"],
    "spanflow_step_tools": {"work": ["db"]},
}


def config(**metadata: Any) -> Any:
    return {"metadata": {**SAID, **metadata}}


def inside(place: str, run: Callable[[], Any]) -> None:
    if place == "engagement":
        with spanflow.engagement("desk"):
            run()
    elif place == "agent":
        spanflow.agent("desk")(run)()
    else:
        spanflow.step("desk")(run)()


@pytest.mark.parametrize("place", ["engagement", "agent", "step"])
def test_users_goals_and_tools_are_those_of_the_bare_run(flow: Flow, place: str) -> None:
    graph = chain("work", "done")
    inside(place, lambda: graph.invoke({"log": []}, config()))
    assert flow.sql(WHO) == [("completed", "done", "ada", "s9", '{"plan":"pro"}')]
    prefix = "desk/" if place == "step" else ""
    assert flow.sql(STEPS)[-2:] == [
        (f"{prefix}work", False, ["db"]),
        (f"{prefix}done", True, None),
    ]
    [(goals,)] = flow.sql("SELECT goals FROM turns")
    assert goals == ["done"]


def test_a_goal_that_is_not_reached_counts(flow: Flow) -> None:
    graph = (
        StateGraph(State)
        .add_node("work", lambda _: {"log": []})
        .add_node("done", lambda _: {"log": []})
        .add_conditional_edges(START, lambda _: "work", ["work", "done"])
        .compile()
    )
    with spanflow.engagement("desk", id="e"):
        graph.invoke({"log": []}, config())
    assert flow.sql(WHO)[0][:2] == ("abandoned", None)
    with spanflow.engagement("desk", id="e"), spanflow.step("done"):
        pass
    assert flow.sql(WHO)[0][:2] == ("completed", "done")  # they hold for the next turn


def test_what_the_block_says_wins(flow: Flow) -> None:
    said = {"user_id": "bob", "goals": ["work"], "metadata": {"plan": "free", "a": 1}}
    with spanflow.engagement("desk", **said):
        chain("work", "done").invoke({"log": []}, config(b=2))
    assert flow.sql("SELECT goal, user_id, session_id FROM engagements") == [("work", "bob", "s9")]
    assert flow.sql(
        "SELECT metadata->>'plan', metadata->>'a', metadata->>'b' FROM engagements"
    ) == [("free", "1", "2")]


def test_the_first_graph_that_says_who_came_is_believed(flow: Flow) -> None:
    with spanflow.engagement("desk"):
        chain("route").invoke({"log": []}, config())
        chain("work", "done").invoke({"log": []}, config(user_id="bob"))
    # The first one has no such step: the goal is the second one's.
    assert flow.sql(WHO) == [("completed", "done", "ada", "s9", '{"plan":"pro"}')]


def test_declared_goals_take_the_place_of_the_settings(flow_with: Callable[..., Flow]) -> None:
    flow = flow_with(goals=["work"], global_steps=["work"])
    with spanflow.engagement("desk"):
        chain("work", "done").invoke({"log": []}, config())
    assert flow.sql("SELECT path, goal, is_global FROM steps ORDER BY started_at") == [
        ("work", None, False),
        ("done", "done", True),
    ]
    assert flow.one("SELECT goals FROM turns") == ["done"]


def test_names_are_matched_as_in_the_graphs_own_turn(flow: Flow) -> None:
    def outer() -> Any:
        graph = StateGraph(State).add_node("a", chain("x", "only")).add_node("b", chain("x"))
        return graph.add_edge(START, "a").add_edge("a", "b").compile()

    said = config(
        spanflow_goals=["x", "a/only"],
        spanflow_global_steps=["x", "w/b/x", "only"],
        spanflow_step_tools={"a/x": ["db"]},
    )
    with spanflow.engagement("desk"), spanflow.step("w"):
        outer().invoke({"log": []}, said)
    found = flow.sql(
        "SELECT path, goal, is_global, tools_available FROM steps WHERE path LIKE '%/%/%'"
    )
    assert sorted(found) == [
        ("w/a/only", "a/only", True, None),
        ("w/a/x", None, False, ["db"]),  # two steps are called that
        ("w/b/x", None, True, None),
    ]


@tool
def lookup(area: str) -> str:
    """Look it up."""
    return area


def with_tools() -> Any:
    call = {"name": "lookup", "args": {"area": "S"}, "id": "c"}
    graph = StateGraph(MessagesState)
    graph.add_node("m", lambda _: {"messages": [AIMessage("", tool_calls=[call])]})
    graph.add_node("tools", ToolNode([lookup]))
    return graph.add_edge(START, "m").add_edge("m", "tools").compile()


def test_tool_nodes_are_known_wherever_the_graph_runs(flow: Flow) -> None:
    value: Any = {"messages": [("user", "q")]}
    with spanflow.engagement("desk"):
        with_tools().invoke(value)
        with spanflow.step("w"):
            with_tools().invoke(value)

    def late(state: MessagesState) -> Any:  # no topology lists what is made in a node
        return {"messages": with_tools().invoke(state)["messages"]}

    outer = StateGraph(MessagesState).add_node("late", late).add_edge(START, "late").compile()
    outer.invoke(value)
    with spanflow.engagement("desk"):
        outer.invoke(value)
    assert flow.sql(
        "SELECT path, tools_available FROM steps WHERE path LIKE '%tools' ORDER BY started_at"
    ) == [(path, ["lookup"]) for path in ("tools", "w/tools", "late/tools", "late/tools")]


def test_every_feed_tells_the_same(flow: Flow, tmp_path: Path) -> None:
    graph = chain("work", "done")
    for place in ("engagement", "agent", "step"):
        inside(place, lambda: graph.invoke({"log": []}, config()))
    with spanflow.engagement("desk", user_id="bob", metadata={"plan": "free", "a": 1}):
        graph.invoke({"log": []}, config(b=2))
        graph.invoke({"log": []}, config(c=3, spanflow_goals=["work"]))
    expected = rows(tmp_path / "fresh", [captured(flow)])
    backwards = flow.spans[::-1]
    for feed in (
        exported(tmp_path / "export.duckdb", [flow.spans]),
        filed(tmp_path / "file.duckdb", [backwards]),
    ):
        assert rows(tmp_path / "fresh", [feed]) == expected
        assert rows(tmp_path / "fresh", [feed, captured(flow)]) == expected
