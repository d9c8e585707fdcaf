"""Several agents in one graph are told apart, where whoever made them names them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import pytest
from graphs import FakeLLM, State, calling, chain, llm
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.tools import InjectedToolCallId, tool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command

if TYPE_CHECKING:
    from conftest import Flow

ASKED: Any = {"messages": [("user", "hello")]}


def saying(*said: str) -> FakeLLM:
    """A model that says these; what begins with ``@`` is the name of a tool it wants used."""
    replies = [
        AIMessage("", tool_calls=[{"name": word[1:], "args": {}, "id": f"call-{number}"}])
        if word.startswith("@")
        else AIMessage(word)
        for number, word in enumerate(said)
    ]
    return FakeLLM(replies=replies)


def handoff(agent: str) -> Any:
    """A tool that hands the conversation over to another agent, as swarms have them."""

    @tool(f"to_{agent}")
    def hand_over(tool_call_id: Annotated[str, InjectedToolCallId]) -> Any:
        """Hand over."""
        told = ToolMessage("handed over", tool_call_id=tool_call_id)
        return Command(goto=agent, graph=Command.PARENT, update={"messages": [told]})

    return hand_over


def react_agent(model: Any, tools: Any, name: str | None = None) -> Any:
    """An agent of LangGraph's own."""
    from langgraph.prebuilt import create_react_agent

    return create_react_agent(model, tools, name=name)


def own_agent(model: Any, tools: Any, name: str | None = None) -> Any:
    """An agent made by hand: a graph that holds a conversation and has a name."""
    from langgraph.prebuilt import ToolNode, tools_condition

    builder = StateGraph(MessagesState)
    builder.add_node("model", lambda state: {"messages": [model.invoke(state["messages"])]})
    builder.add_node("tools", ToolNode(tools))
    builder.add_edge(START, "model")
    builder.add_conditional_edges("model", tools_condition)
    builder.add_edge("tools", "model")
    return builder.compile(name=name)


MAKERS = pytest.mark.parametrize(
    ("make", "thinks"),
    [
        pytest.param(create_agent, "model", id="create_agent"),
        pytest.param(
            react_agent,
            "agent",
            id="create_react_agent",
            marks=pytest.mark.filterwarnings("ignore::DeprecationWarning"),
        ),
        pytest.param(own_agent, "model", id="own"),
    ],
)


def agents(flow: Flow) -> list[tuple[str, str | None]]:
    """Path and agent of each step in order, as its span and its record both have them."""
    steps = sorted(
        (s for s in flow.spans if s.name.startswith("step ")), key=lambda s: s.start_time or 0
    )
    told = [
        (span.attributes["spanflow.step.path"], span.attributes.get("gen_ai.agent.name"))
        for span in steps
        if span.attributes is not None
    ]
    assert flow.sql("SELECT path, agent_name FROM steps ORDER BY started_at") == told
    return told  # type: ignore[return-value]


@MAKERS
def test_a_swarm_tells_who_is_at_work(flow: Flow, make: Any, thinks: str) -> None:
    builder = StateGraph(MessagesState)
    alice = make(saying("@to_bob"), [handoff("bob")], name="alice")
    bob = make(saying("hello, I am bob"), [handoff("alice")], name="bob")
    builder.add_node("alice", alice, destinations=("bob",))
    builder.add_node("bob", bob, destinations=("alice",))
    builder.add_edge(START, "alice")
    assert builder.compile().invoke(ASKED)["messages"][-1].content.startswith("hello")
    assert agents(flow) == [
        ("alice", None),
        (f"alice/{thinks}", "alice"),
        ("alice/tools", "alice"),
        ("bob", None),
        (f"bob/{thinks}", "bob"),
    ]
    assert flow.sql("SELECT agent_name FROM llm_calls ORDER BY started_at") == [
        ("alice",),
        ("bob",),
    ]
    assert flow.sql("SELECT name, agent_name FROM tool_calls") == [("to_bob", "alice")]
    for span in flow.spans:
        if span.name.startswith(("chat", "execute_tool")) and span.attributes is not None:
            assert span.attributes["gen_ai.agent.name"] in ("alice", "bob")


@MAKERS
def test_a_supervisor_calls_its_agents_from_nodes(flow: Flow, make: Any, thinks: str) -> None:
    worker = make(saying("done"), [], name="worker")

    def call_worker(state: MessagesState) -> Any:
        return worker.invoke(state)

    boss = make(saying("@to_worker", "all done"), [handoff("worker")], name="boss")
    builder = StateGraph(MessagesState)
    builder.add_node("boss", boss, destinations=("worker",))
    builder.add_node("worker", call_worker)
    builder.add_edge(START, "boss")
    builder.add_edge("worker", "boss")
    builder.compile().invoke(ASKED)
    assert [agent for _, agent in agents(flow) if agent] == ["boss", "boss", "worker", "boss"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_an_agent_inside_another_has_its_own_name(flow: Flow) -> None:
    inner = react_agent(saying("from inside"), [], name="inner")

    @tool
    def ask_inner() -> str:
        """Ask the other agent."""
        return inner.invoke(ASKED)["messages"][-1].content

    @tool
    def run_steps() -> str:
        """Run a graph that is nobody's agent."""
        chain("plain", plain=calling(llm(1, 1))).invoke({"log": []})
        return "ran"

    outer = create_agent(
        saying("@ask_inner", "@run_steps", "done"), [ask_inner, run_steps], name="outer"
    )
    outer.invoke(ASKED)
    assert dict(agents(flow)) == {
        "model": "outer",
        "tools": "outer",
        "tools/agent": "inner",
        "tools/plain": "outer",
    }
    assert flow.sql("SELECT agent_name, count(*) FROM llm_calls GROUP BY 1 ORDER BY 1") == [
        ("inner", 1),
        ("outer", 4),
    ]


@MAKERS
def test_nobody_is_given_a_name(flow: Flow, make: Any, thinks: str) -> None:
    make(saying("hello"), []).invoke(ASKED)
    assert agents(flow) == [(thinks, None)]


def test_a_plain_graph_is_nobodys_agent(flow: Flow) -> None:
    """Neither a graph with a name that holds no conversation, nor one that is nobody's node."""
    search = chain("find").builder.compile(name="search")
    builder = StateGraph(State)
    builder.add_node("search", search)
    builder.add_edge(START, "search")
    builder.compile(name="booking").invoke({"log": []})
    own_agent(saying("hello"), [], name="chatty").invoke(ASKED)
    assert agents(flow) == [("search", None), ("search/find", None), ("model", None)]
