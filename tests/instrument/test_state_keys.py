"""What nodes say of themselves in the state they return, and what of it is the user's own."""

from __future__ import annotations

import copy
import json
import operator
from typing import Annotated, Any, TypedDict

import pytest
from graphs import llm
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.types import Command, Send
from pydantic import BaseModel

from spanflow import guard

CALL = {"model": "m", "provider": "openai", "input_tokens": 5, "output_tokens": 5}


class Kept(TypedDict, total=False):
    """Each list is what the last node made of it."""

    events: Any
    llm_calls: Any
    tool_calls: Any
    extraction: Any


class Added(TypedDict, total=False):
    """Each node adds to the lists."""

    events: Annotated[list[Any], operator.add]
    llm_calls: Annotated[list[Any], operator.add]
    tool_calls: Annotated[list[Any], operator.add]


def graph(*nodes: Any, state: Any = Kept, saver: Any = None) -> Any:
    builder = StateGraph(state)
    for number, node in enumerate(nodes):
        builder.add_node(f"n{number}", node)
        builder.add_edge(f"n{number - 1}" if number else START, f"n{number}")
    return builder.compile(saver)


def telling(update: Any, **options: Any) -> Any:
    """A graph of one node that returns `update`."""
    return graph(lambda _: update, **options)


@pytest.fixture
def on(flow_with: Any) -> Any:
    return flow_with(state_keys=True)


def spent(flow: Any) -> tuple[Any, ...]:
    [row] = flow.sql(
        "SELECT llm_calls, calls_without_usage, input_tokens, output_tokens, total_tokens "
        "FROM engagements"
    )
    return row


def events(flow: Any) -> list[tuple[Any, ...]]:
    rows = flow.sql(
        "SELECT kind, name, payload FROM events WHERE kind NOT LIKE '%_call' ORDER BY kind, name"
    )
    return [(kind, name, json.loads(text) if text else None) for kind, name, text in rows]


def test_each_kind_is_recorded_on_its_step(on):
    told = {
        "llm_calls": [CALL],
        "tool_calls": [{"name": "look_up", "call_id": "c1"}, {"name": "book", "error": "full"}],
        "events": [
            {"kind": "log", "name": "shown", "payload": {"hits": 3}},
            {"kind": "error", "name": "Timeout", "payload": {"message": "late"}},
            {"kind": "goal", "name": "booked"},
        ],
        "extraction": {"schema": "Budget", "values": {"usd": 95}},
    }
    before = copy.deepcopy(told)
    assert telling(told).invoke({}) == before
    assert told == before
    assert spent(on) == (1, 0, 5, 5, 10)
    assert on.sql("SELECT step_name, model, provider, total_tokens FROM llm_calls") == [
        ("n0", "m", "openai", 10)
    ]
    assert on.sql(
        "SELECT step_name, name, status, error_message FROM tool_calls ORDER BY name"
    ) == [
        ("n0", "book", "error", "full"),
        ("n0", "look_up", "ok", None),
    ]
    assert sorted(events(on)) == [
        ("error", "Timeout", {"message": "late", "stack": ""}),
        ("extraction", "Budget", {"schema": "Budget", "valid": True, "values": {"usd": 95}}),
        ("goal", "booked", {"step": "n0"}),
        ("log", "shown", {"hits": 3}),
    ]
    assert on.one("SELECT status FROM engagements") == "completed"


def test_nothing_is_read_where_nobody_asked(flow):
    telling({"llm_calls": [CALL], "events": [{"kind": "log", "name": "x"}]}).invoke({})
    assert spent(flow) == (0, 0, 0, 0, 0)
    assert events(flow) == []


@pytest.mark.parametrize(
    "own",
    [
        {"events": ["lunch", "dinner"], "extraction": "a tooth"},
        {"events": [{"kind": "meeting", "title": "standup"}], "extraction": {"values": [1]}},
        {"llm_calls": 3, "tool_calls": {"name": "x", "args": {}, "type": "tool_call", "id": "1"}},
        {"llm_calls": [{"model": None}, {"model": ""}, {}], "tool_calls": [{"name": 3}, None]},
        {"extraction": {"schema": "S", "values": 1, "depth_m": 4}, "events": {"kind": 7}},
        {"extraction": {"schema": 3, "values": 1}, "events": [[{"kind": "log"}]]},
    ],
)
def test_a_users_own_keys_of_these_names_are_left_alone(on, own):
    before = copy.deepcopy(own)
    assert telling(own).invoke({}) == before
    assert spent(on) == (0, 0, 0, 0, 0)
    assert on.sql("SELECT count(*) FROM tool_calls") == [(0,)]
    assert events(on) == []
    assert guard.counts() == {}


@pytest.mark.parametrize(
    ("numbers", "wanted"),
    [
        ({"input_tokens": 5, "output_tokens": 5}, (1, 0, 5, 5, 10)),
        ({"total_tokens": 30}, (1, 0, None, None, 30)),
        ({"input_tokens": 50, "output_tokens": 20, "total_tokens": 3}, (1, 0, 50, 20, 3)),
        ({"input_tokens": -5, "output_tokens": 5}, (1, 0, None, 5, None)),
        ({"input_tokens": None}, (1, 1, None, None, None)),
        ({"usage": None}, (1, 1, None, None, None)),
        ({"usage": {"input_tokens": 2, "output_tokens": 1}}, (1, 0, 2, 1, 3)),
        ({"input_tokens": True, "output_tokens": "5"}, (1, 1, None, None, None)),
    ],
)
def test_tokens_are_what_was_told_and_never_below_zero(on, numbers, wanted):
    telling({"llm_calls": [{"model": "m", **numbers}]}).invoke({})
    assert spent(on) == wanted
    refused = any(value in (-5, "5") for value in numbers.values())
    assert guard.counts() == ({"usage.refused": 1} if refused else {})


def test_an_unknown_kind_is_a_log_that_says_what_it_was_called(on):
    telling({"events": [{"kind": "banana", "name": "peel", "payload": 3}, {"kind": "b"}]}).invoke(
        {}
    )
    assert events(on) == [
        ("log", "b", {"kind": "b"}),
        ("log", "peel", {"kind": "banana", "payload": 3}),
    ]


@pytest.mark.parametrize(
    "update",
    [
        Command(update={"llm_calls": [CALL]}),
        [Command(update={"llm_calls": [CALL]}), {"events": []}],
        Command(update=[("llm_calls", (CALL,))]),
    ],
)
def test_commands_and_lists_of_them_are_read_too(on, update):
    telling(update).invoke({})
    assert spent(on) == (1, 0, 5, 5, 10)


def test_a_command_to_the_graph_around_is_read_too(on):
    def leave(_: Any) -> Any:
        return Command(graph=Command.PARENT, goto="n1", update={"llm_calls": [dict(CALL)]})

    graph(graph(leave), lambda _: {"events": []}).invoke({})
    assert spent(on) == (1, 0, 5, 5, 10)


async def test_asynchronous_nodes_and_streams_are_read_too(on):
    async def node(_: Any) -> Any:
        return {"llm_calls": [dict(CALL)]}

    async for _ in graph(node, node, state=Added).astream({}):
        pass
    assert spent(on) == (2, 0, 10, 10, 20)


def test_equal_calls_of_several_nodes_all_count(on):
    def node(_: Any) -> Any:
        return {"llm_calls": [dict(CALL), dict(CALL)]}

    graph(node, node, node, state=Added).invoke({})
    assert spent(on) == (6, 0, 30, 30, 60)


@pytest.mark.parametrize("saved", [False, True])
def test_what_the_state_held_already_is_not_told_again(on, saved):
    def node(state: Any) -> Any:
        told = state.get("llm_calls") or []
        return {"llm_calls": [*told, {**CALL, "input_tokens": len(told) + 1}]}

    agent = graph(node, node, saver=InMemorySaver() if saved else None)
    config = {"configurable": {"thread_id": "1"}}
    agent.invoke({"llm_calls": [dict(CALL)]}, config)  # told by somebody else, before
    assert spent(on)[2] == 2 + 3
    if saved:
        agent.invoke({"events": []}, config)
        assert spent(on)[2] == 2 + 3 + 4 + 5


def test_a_subgraph_and_the_node_around_it_tell_a_call_once(on):
    inner = graph(lambda _: {"llm_calls": [dict(CALL)]})

    def same(_: Any) -> Any:
        return {"llm_calls": inner.invoke({})["llm_calls"]}

    def copied(_: Any) -> Any:
        return {"llm_calls": copy.deepcopy(inner.invoke({})["llm_calls"])}

    graph(same, copied, inner, state=Added).invoke({})
    assert spent(on) == (3, 0, 15, 15, 30)


def test_what_was_captured_is_not_recorded_again(on):
    model = llm(5, 5)
    entry = {"model": "fake-1", "input_tokens": 5, "output_tokens": 5}

    def node(_: Any) -> Any:
        model.invoke("hello")
        # One was captured; the second is another one, and so is what spent something else.
        return {"llm_calls": [dict(entry), dict(entry), {**entry, "input_tokens": 7}]}

    graph(node).invoke({})
    assert spent(on) == (3, 0, 17, 15, 32)
    assert on.sql("SELECT count(*) FROM llm_calls") == [(3,)]


def test_usage_that_only_the_state_tells_is_that_of_the_captured_call(on):
    from graphs import FakeLLM
    from langchain_core.messages import AIMessage

    model = FakeLLM(replies=[AIMessage("hi")])

    def node(_: Any) -> Any:
        model.invoke("hello")
        return {"llm_calls": [{"model": "fake-1", "input_tokens": 5, "output_tokens": 5}]}

    graph(node).invoke({})
    assert spent(on) == (1, 0, 5, 5, 10)


def test_a_tool_that_was_captured_is_not_recorded_again(on):
    from langchain_core.tools import tool

    @tool
    def look_up(area: str) -> str:
        """Look something up."""
        return area

    def node(_: Any) -> Any:
        look_up.invoke({"area": "x"})
        return {"tool_calls": [{"name": "look_up"}, {"name": "book"}]}

    graph(node).invoke({})
    assert on.sql("SELECT name FROM tool_calls WHERE counted ORDER BY name") == [
        ("book",),
        ("look_up",),
    ]


CONTENT = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"


@pytest.mark.parametrize(
    ("mode", "kept"), [("NO_CONTENT", (None, None)), ("SPAN_ONLY", ('{"to":"[email]"}', "[1]"))]
)
def test_arguments_and_results_are_kept_only_where_content_is(flow_with, monkeypatch, mode, kept):
    monkeypatch.setenv(CONTENT, mode)
    flow = flow_with(state_keys=True, redact=["email"])
    update = {"tool_calls": [{"name": "t", "arguments": {"to": "a@b.org"}, "result": [1]}]}
    telling(update).invoke({})
    assert flow.sql("SELECT arguments, result FROM tool_calls") == [kept]


def test_texts_are_redacted(flow_with):
    flow = flow_with(state_keys=True, redact=["email"])
    who = "a@b.org"
    told = {
        "llm_calls": [{"model": who, "provider": who, "response_id": who, "error": who}],
        "tool_calls": [{"name": who, "call_id": who, "error": {"to": who}}],
        "events": [
            {"kind": who, "name": who, "payload": [who]},
            {"kind": "error", "name": who, "payload": {"message": who, "stack": who}},
            {"kind": "goal", "name": who},
        ],
        "extraction": {"name": who, "values": {who: who}, "error": who},
    }
    telling(told).invoke({})
    rows = flow.sql("SELECT records::VARCHAR FROM records")
    assert len(rows) == 4
    assert who not in str(rows)
    assert who not in str([(s.name, s.attributes, s.events[:]) for s in flow.spans])


def test_branches_side_by_side_tell_their_own(on):
    def node(state: Any) -> Any:
        return {"llm_calls": [{**CALL, "input_tokens": 2 ** state["number"]}]}

    builder = StateGraph(Added)
    builder.add_node("split", lambda _: {})
    builder.add_node("one", node)
    builder.add_edge(START, "split")
    builder.add_conditional_edges(
        "split", lambda _: [Send("one", {"number": number}) for number in range(20)], ["one"]
    )
    builder.compile().invoke({})
    assert spent(on)[:3] == (20, 0, 2**20 - 1)
    assert on.one("SELECT count(DISTINCT step_id) FROM llm_calls") == 20


def test_a_large_payload_is_cut_and_says_so(on):
    telling({"events": [{"kind": "log", "name": "big", "payload": "x" * 20_000_000}]}).invoke({})
    [(_, _, payload)] = events(on)
    assert payload["truncated"] is True
    assert payload["original_size"] == 20_000_000
    assert len(payload["text"]) <= 16_384


class Odd:
    """Something that no JSON can say."""

    def __repr__(self) -> str:
        msg = "no"
        raise ValueError(msg)


@pytest.mark.parametrize(
    "payload",
    ["text", [1], b"\xff\x00", Odd(), "\ud800", float("nan"), {1: {2.5: None}}, {"a": {"b"}}],
)
def test_any_payload_is_kept_as_json(on, payload):
    telling({"events": [{"kind": "log", "name": "x", "payload": payload}]}).invoke({})
    assert [name for _, name, _ in events(on)] == ["x"]
    assert guard.counts() == {}


class Typed(BaseModel):
    """A state that pydantic makes anew for each node."""

    llm_calls: list[dict[str, Any]] = []


def test_a_pydantic_state_is_read_and_what_it_held_is_known(on):
    def node(state: Typed) -> Any:
        return {"llm_calls": [*state.llm_calls, dict(CALL)]}

    graph(node, node, state=Typed).invoke({})
    assert spent(on) == (2, 0, 10, 10, 20)


KEYS = ["kind", "name", "payload", "model", "values", "schema", "usage", "error", "type"]
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["kind", "name", "payload", "model", "values", "schema", "usage", "error"]
            )
            | st.integers()
            | st.text(max_size=3),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    deadline=None,
    max_examples=60,
)
@given(told=st.fixed_dictionaries({}, optional=dict.fromkeys(Kept.__annotations__, JUNK)))
def test_nothing_malformed_changes_or_stops_a_run(flow_with, told):
    flow_with(state_keys=True, ledger=None)
    before = repr(told)
    telling(told).invoke({})
    assert repr(told) == before
    assert set(guard.counts()) <= {"usage.refused"}
