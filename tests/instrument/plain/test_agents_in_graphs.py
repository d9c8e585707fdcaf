"""An agent that an app names around a graph, inside a step that works for another agent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict

from langgraph.graph import START, StateGraph

import spanflow

if TYPE_CHECKING:
    from conftest import Flow

AGENTS = "SELECT path, agent_name FROM steps ORDER BY started_at"


class State(TypedDict, total=False):
    """Nothing to speak of."""

    n: int


def think(state: State) -> State:
    spanflow.llm_call("m", input_tokens=1, output_tokens=1)
    return state


def graph_of(name: str, body: Any) -> Any:
    return (
        StateGraph(State).add_node(name, body).add_edge(START, name).compile(name=f"{name} graph")
    )


def test_a_graph_inside_works_for_the_innermost_agent(flow: Flow) -> None:
    with spanflow.engagement("e"), spanflow.agent("boss"), spanflow.step("route"):
        with spanflow.agent("researcher"):
            graph_of("think", think).invoke({})
        graph_of("check", think).invoke({})
    assert flow.sql(AGENTS) == [
        ("route", "boss"),
        ("route/think", "researcher"),
        ("route/check", "boss"),
    ]
    assert flow.sql("SELECT agent_name FROM llm_calls ORDER BY started_at") == [
        ("researcher",),
        ("boss",),
    ]


def test_so_does_one_in_a_node_that_is_an_agent(flow: Flow) -> None:
    @spanflow.agent("writer")
    def write(state: State) -> State:
        return graph_of("think", think).invoke(state)

    with spanflow.agent("boss"):
        graph_of("write", write).invoke({})
    assert flow.sql(AGENTS) == [("write", "boss"), ("write/think", "writer")]
    assert flow.one("SELECT agent_name FROM llm_calls") == "writer"
