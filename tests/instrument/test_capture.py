"""An unmodified graph, enabled from outside: what is recorded, and that nothing else changes."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from graphs import FakeLLM, State, acalling, calling, chain, llm, usage
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.tools import tool
from langgraph.graph import END, START, MessagesState, StateGraph

import spanflow

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Flow


def chat_graph(model: Any) -> Any:
    def chat(state: MessagesState) -> Any:
        return {"messages": [model.invoke(state["messages"])]}

    builder = StateGraph(MessagesState)
    builder.add_node("chat", chat)
    builder.add_edge(START, "chat")
    builder.add_edge("chat", END)
    return builder.compile()


def texts(state: Any) -> list[Any]:
    return [(type(m).__name__, m.content) for m in state["messages"]]


def test_one_chat_call_becomes_one_engagement(flow: Flow) -> None:
    app = chat_graph(llm(11, 7, "hello there"))
    result = app.invoke({"messages": [("user", "hi")]})

    assert texts(result) == [("HumanMessage", "hi"), ("AIMessage", "hello there")]
    name = next(s.name for s in flow.spans if s.name.startswith("invoke_workflow"))
    assert flow.tree() == [[name, [["step chat", ["chat fake-1"]]]]]
    assert flow.sql(
        "SELECT status, turns, steps, llm_calls, input_tokens, output_tokens, total_tokens "
        "FROM engagements"
    ) == [("completed", 1, 1, 1, 11, 7, 18)]
    assert flow.steps() == [("chat", "completed")]
    assert flow.sql(
        "SELECT step_name, model, provider, input_tokens, output_tokens, total_tokens, counted "
        "FROM llm_calls"
    ) == [("chat", "fake-1", "fake", 11, 7, 18, True)]


def test_results_are_those_of_the_bare_graph(flow: Flow) -> None:
    instrumented = chat_graph(llm(11, 7)).invoke({"messages": [HumanMessage("hi", id="1")]})
    spanflow.uninstrument()
    bare = chat_graph(llm(11, 7)).invoke({"messages": [HumanMessage("hi", id="1")]})
    assert texts(instrumented) == texts(bare)
    assert len(flow.named("step chat")) == 1


async def test_ainvoke_gives_the_same_rows(flow: Flow) -> None:
    app = chain("a", a=acalling(llm(11, 7)))
    await app.ainvoke({"log": []})
    assert flow.steps() == [("a", "completed")]
    assert flow.one("SELECT total_tokens FROM engagements") == 18


@tool
def lookup(area: str) -> str:
    """Look an area up."""
    return f"3 rooms in {area}"


def tool_agent() -> Any:
    return create_agent(
        FakeLLM(
            replies=[
                AIMessage(
                    "",
                    tool_calls=[{"name": "lookup", "args": {"area": "Shibuya"}, "id": "c1"}],
                    usage_metadata=usage(20, 5),
                ),
                AIMessage("done", usage_metadata=usage(30, 6)),
            ]
        ),
        [lookup],
    )


AGENT_EVENTS = [("llm_call", 25), ("tool_call", None), ("llm_call", 36)]


@pytest.mark.parametrize("mode", ["NO_CONTENT", "SPAN_ONLY"])
def test_a_tool_agent_and_its_content(
    flow_with: Callable[..., Flow], monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", mode)
    flow = flow_with()
    tool_agent().invoke({"messages": [("user", "a secret wish")]})
    assert [path for path, _ in flow.steps()] == ["model", "tools", "model"]
    assert flow.one("SELECT total_tokens FROM engagements") == 61
    assert [kind for (kind,) in flow.sql("SELECT kind FROM events ORDER BY occurred_at")] == [
        "llm_call",
        "tool_call",
        "llm_call",
    ]
    [(name, step, call_id, arguments, result, status, duration)] = flow.sql(
        "SELECT name, step_name, call_id, arguments, result, status, duration_ms FROM tool_calls"
    )
    assert (name, step, call_id, status) == ("lookup", "tools", "c1", "ok")
    assert duration > 0
    everything = json.dumps(flow.sql("SELECT * FROM records"), default=str) + json.dumps(
        [dict(span.attributes or {}) for span in flow.spans], default=str
    )
    if mode == "NO_CONTENT":
        assert (arguments, result) == (None, None)
        assert "a secret wish" not in everything
        assert "3 rooms" not in everything
    else:
        assert json.loads(arguments) == {"area": "Shibuya"}
        assert result == "3 rooms in Shibuya"
        assert "a secret wish" in everything


def test_tools_of_a_tool_node_are_found_and_metadata_adds_to_them(flow: Flow) -> None:
    tool_agent().invoke(
        {"messages": [("user", "hi")]},
        {"metadata": {"spanflow_step_tools": {"model": ["ask"]}}},
    )
    rows = flow.sql("SELECT name, tools_available FROM steps ORDER BY started_at")
    assert rows == [
        ("model", ["ask"]),
        ("tools", ["lookup"]),
        ("model", ["ask"]),
    ]


def test_metadata_and_identity_are_kept(flow: Flow) -> None:
    class Odd:
        def __repr__(self) -> str:
            return "<odd>"

    app = chain("greet", "search")
    app.invoke(
        {"log": []},
        {
            "metadata": {
                "user_id": "u1",
                "session_id": "s1",
                "tier": "gold",
                "hits": 1,
                "odd": Odd(),
            }
        },
    )
    [(user, session, metadata, status, tokens)] = flow.sql(
        "SELECT user_id, session_id, metadata, status, total_tokens FROM engagements"
    )
    assert (user, session, status, tokens) == ("u1", "s1", "completed", 0)
    assert json.loads(metadata) == {"tier": "gold", "hits": 1, "odd": "<odd>"}
    [turn] = [s for s in flow.spans if s.name.startswith("invoke_workflow")]
    assert turn.attributes is not None
    assert turn.attributes["user.id"] == "u1"
    assert turn.attributes["session.id"] == "s1"
    [(nodes, edges)] = flow.sql("SELECT nodes, edges FROM graphs")
    assert [node["name"] for node in json.loads(nodes)] == ["greet", "search"]
    assert [(e["source"], e["target"]) for e in json.loads(edges)] == [("greet", "search")]


def test_step_tokens_add_up(flow: Flow) -> None:
    chain(
        "greet",
        "qualify",
        "search",
        greet=calling(llm(30, 10)),
        qualify=calling(llm(64, 20)),
        search=calling(llm(100, 25)),
    ).invoke({"log": []})
    assert flow.sql("SELECT name, total_tokens FROM steps ORDER BY started_at") == [
        ("greet", 40),
        ("qualify", 84),
        ("search", 125),
    ]
    assert flow.one("SELECT total_tokens FROM engagements") == 249
    turn = next(s for s in flow.spans if s.name.startswith("invoke_workflow"))
    assert turn.attributes is not None
    assert turn.attributes["spanflow.usage.total_tokens"] == 249


def escalating(entry: bool = False) -> Any:
    builder = StateGraph(State)
    for name in ("greet", "qualify", "search", "escalate"):
        builder.add_node(name, lambda state: {"log": ["x"]})
    if entry:
        builder.add_edge(START, "escalate")
    else:
        builder.add_edge(START, "greet")
    builder.add_edge("greet", "qualify")
    builder.add_conditional_edges("qualify", lambda state: "escalate", ["escalate", "search"])
    builder.add_edge("escalate", END)
    builder.add_edge("search", END)
    return builder.compile()


@pytest.mark.parametrize(("entry", "origin"), [(False, "qualify"), (True, None)])
def test_a_global_step_switches_the_intent(
    flow_with: Callable[..., Flow], entry: bool, origin: str | None
) -> None:
    flow = flow_with(global_steps=["escalate"])
    escalating(entry).invoke({"log": []})
    assert flow.sql("SELECT name FROM steps WHERE is_global") == [("escalate",)]
    [(payload,)] = flow.sql("SELECT payload FROM events WHERE kind = 'intent_switch'")
    assert json.loads(payload) == {"from": origin, "to": "escalate"}


def test_no_switch_without_a_global_step(flow: Flow) -> None:
    escalating().invoke({"log": []})
    assert flow.sql("SELECT * FROM events WHERE kind = 'intent_switch'") == []


def test_two_unnamed_graphs_do_not_mix(flow_with: Callable[..., Flow]) -> None:
    flow = flow_with(goals=["submit"])
    chain("intake", "submit").invoke({"log": []})
    chain("ask", "answer").invoke({"log": []})
    rows = flow.sql("SELECT name, status FROM engagements ORDER BY started_at")
    assert [status for _, status in rows] == ["completed", "completed"]
    assert len({name for name, _ in rows}) == 2
    assert all(name.startswith("graph-") for name, _ in rows)


def test_names_come_from_metadata_then_run_name_then_graph(flow: Flow) -> None:
    app = chain("a")
    app.invoke({"log": []}, {"metadata": {"spanflow_engagement_name": "one"}, "run_name": "two"})
    app.invoke({"log": []}, {"run_name": "two"})
    named = StateGraph(State).add_node("a", lambda s: {"log": []}).add_edge(START, "a")
    named.compile(name="three").invoke({"log": []})
    rows = flow.sql("SELECT name FROM engagements ORDER BY started_at")
    assert rows == [("one",), ("two",), ("three",)]


def test_a_users_own_state_keys_are_left_alone(flow: Flow) -> None:
    from typing import TypedDict

    class Own(TypedDict):
        events: list[str]
        extraction: str

    builder = StateGraph(Own)
    builder.add_node("a", lambda state: {"events": ["mine"], "extraction": "mine too"})
    builder.add_edge(START, "a")
    result = builder.compile().invoke({"events": [], "extraction": ""})
    assert result == {"events": ["mine"], "extraction": "mine too"}
    assert flow.sql("SELECT * FROM events") == []


async def test_fifty_runs_at_once_stay_apart(flow: Flow) -> None:
    app = chain("a", "b", a=acalling(llm(1, 1)), b=acalling(llm(1, 1)))
    await asyncio.gather(*(app.ainvoke({"log": []}) for _ in range(50)))
    rows = flow.sql("SELECT steps, total_tokens, status FROM engagements")
    assert rows == [(2, 4, "completed")] * 50
    assert flow.sql(
        "SELECT count(*) FROM llm_calls c JOIN steps s USING (step_id) "
        "WHERE c.engagement_id <> s.engagement_id"
    ) == [(0,)]


def test_a_run_can_be_left_out(flow: Flow) -> None:
    app = chain("a", a=calling(llm(1, 1)))
    app.invoke({"log": []}, {"metadata": {"spanflow_enabled": False}})
    assert flow.spans == []
    app.invoke({"log": []})
    assert flow.one("SELECT count(*) FROM llm_calls") == 1


def test_a_users_own_spans_nest_where_they_belong(flow: Flow) -> None:
    from opentelemetry import trace

    tracer = trace.get_tracer("mine")

    def node(state: State) -> State:
        with tracer.start_as_current_span("mine"):
            llm(1, 1).invoke("x")
        return {"log": []}

    with tracer.start_as_current_span("request"):
        chain("a", a=node).invoke({"log": []}, {"run_name": "job"})
        with tracer.start_as_current_span("after"):
            pass
    [request] = flow.tree()
    graph = next(s.name for s in flow.spans if s.name.startswith("invoke_workflow"))
    assert request == [
        "request",
        [[graph, [["step a", [["mine", ["chat fake-1"]]]]]], "after"],
    ]
    mine, after = flow.named("mine")[0], flow.named("after")[0]
    step = flow.named("step a")[0]
    assert step.attributes is not None
    assert mine.attributes is not None
    assert after.attributes is not None
    assert mine.attributes["spanflow.step.id"] == step.attributes["spanflow.step.id"]
    assert "spanflow.engagement.id" not in after.attributes


def test_calls_outside_any_graph_stand_alone(flow: Flow) -> None:
    llm(3, 4).invoke("hello")
    assert [s.name for s in flow.spans] == ["chat fake-1"]
    assert flow.sql("SELECT engagement_id, total_tokens, counted FROM llm_calls") == [
        (None, 7, True)
    ]
    assert flow.sql("SELECT * FROM engagements") == []


def test_uninstrument_restores_every_wrapped_object(flow: Flow) -> None:
    import wrapt
    from langchain_core.language_models import BaseChatModel
    from langchain_core.tools import BaseTool
    from langgraph.pregel import Pregel

    chain("a").invoke({"log": []})
    places = [
        (Pregel, "stream"),
        (Pregel, "astream"),
        (BaseChatModel, "generate"),
        (BaseTool, "run"),
    ]
    assert all(isinstance(vars(owner)[name], wrapt.FunctionWrapper) for owner, name in places)
    spanflow.uninstrument()
    assert not any(isinstance(vars(owner)[name], wrapt.FunctionWrapper) for owner, name in places)
    flow.exporter.clear()
    chain("a", a=calling(llm(1, 1))).invoke({"log": []})
    assert flow.spans == []


def test_configuring_twice_doubles_nothing(flow_with: Callable[..., Flow]) -> None:
    flow_with()
    flow = flow_with()
    chain("a", a=calling(llm(1, 1))).invoke({"log": []})
    assert len(flow.named("step a")) == 1
    assert flow.one("SELECT count(*) FROM llm_calls") == 1
