"""Calls that nodes tell of in their state: each counts once, and nothing known of one is lost."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, TypedDict

import pytest
from graphs import FakeLLM, llm
from langchain_core.messages import AIMessage
from langgraph.graph import START, StateGraph
from langgraph.types import Command
from opentelemetry import trace
from pydantic import BaseModel

import spanflow
from spanflow import guard

CALL = {"model": "m", "input_tokens": 5, "output_tokens": 5}
CAPTURED = {"model": "fake-1", "input_tokens": 5, "output_tokens": 5}


class Kept(TypedDict, total=False):
    """Whatever the one node returns."""

    events: Any
    llm_calls: Any
    tool_calls: Any
    extraction: Any


def run(node: Any, state: Any = Kept) -> Any:
    return StateGraph(state).add_node("n", node).add_edge(START, "n").compile().invoke({})


@pytest.fixture
def on(flow_with: Any) -> Any:
    return flow_with(state_keys=True)


def spent(flow: Any) -> tuple[Any, ...]:
    [row] = flow.sql("SELECT llm_calls, tool_calls, total_tokens FROM engagements")
    return row


# -- steps inside the node -------------------------------------------------------------------------


def in_a_block(work: Any) -> None:
    with spanflow.step("rank"):
        work()


def in_blocks(work: Any) -> None:
    with spanflow.step("outer"), spanflow.step("inner"):
        work()


def in_a_function(work: Any) -> None:
    spanflow.step("helper")(work)()


def in_a_failing_block(work: Any) -> None:
    @spanflow.step("fails")
    def fails() -> None:
        work()
        raise RuntimeError

    with pytest.raises(RuntimeError):
        fails()


def in_an_agent_of_somebody_elses(work: Any) -> None:
    tracer = trace.get_tracer("pydantic-ai")
    said = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "a"}
    with tracer.start_as_current_span("invoke_agent a", attributes=said):
        work()


def in_a_subgraph_that_fails(work: Any) -> None:
    def fails(_: Any) -> None:
        work()
        raise RuntimeError

    with pytest.raises(RuntimeError):
        StateGraph(Kept).add_node("inner", fails).add_edge(START, "inner").compile().invoke({})


@pytest.mark.parametrize(
    "inside",
    [
        in_a_block,
        in_blocks,
        in_a_function,
        in_a_failing_block,
        in_an_agent_of_somebody_elses,
        in_a_subgraph_that_fails,
    ],
)
def test_what_was_captured_in_a_step_inside_the_node_is_not_recorded_again(on, inside):
    model = llm(5, 5)

    def work() -> None:
        model.invoke("hello")
        spanflow.tool_call("look_up", result=1)

    def node(_: Any) -> Any:
        inside(work)
        # The second of each is another one.
        return {
            "llm_calls": [dict(CAPTURED), dict(CAPTURED)],
            "tool_calls": [{"name": "look_up"}, {"name": "look_up"}],
        }

    run(node)
    assert spent(on) == (2, 2, 20)
    assert on.sql("SELECT count(*) FROM llm_calls") == [(2,)]
    [step] = on.named("step n")
    assert step.attributes["spanflow.usage.total_tokens"] == 20
    assert step.attributes["spanflow.usage.llm_calls"] == 2


def test_a_call_of_another_node_is_another_call(on):
    model = llm(5, 5)

    def first(_: Any) -> Any:
        in_a_block(lambda: model.invoke("hello"))
        return {}

    builder = StateGraph(Kept).add_node("a", first).add_edge(START, "a")
    builder.add_node("b", lambda _: {"llm_calls": [dict(CAPTURED)]}).add_edge("a", "b")
    builder.compile().invoke({})
    assert spent(on) == (2, 0, 20)


# -- what only the state knows ---------------------------------------------------------------------


@pytest.mark.parametrize("place", [in_a_block, lambda work: work()])
def test_what_only_the_state_knows_is_added_to_what_was_captured(on, place):
    model = llm(5, 5)
    told = {**CAPTURED, "cost_usd": 0.5, "cache_read_tokens": 3, "output_tokens": None}

    def node(_: Any) -> Any:
        place(lambda: model.invoke("hello"))
        return {"llm_calls": [told]}

    run(node)
    columns = "model, input_tokens, output_tokens, total_tokens, cache_read_tokens, cost_usd"
    assert on.sql(f"SELECT {columns}, status, duration_ms > 0, counted FROM llm_calls") == [
        ("fake-1", 5, 5, 10, 3, 0.5, "ok", True, True)
    ]
    assert on.sql("SELECT llm_calls, total_tokens, cost_usd FROM engagements") == [(1, 10, 0.5)]


def test_what_was_captured_is_believed_before_the_state(on):
    def node(_: Any) -> Any:
        spanflow.llm_call("m", input_tokens=5, output_tokens=5, cost_usd=0.25, response_id="r")
        return {"llm_calls": [{**CALL, "response_id": "r", "input_tokens": 9, "cost_usd": 0.5}]}

    run(node)
    assert on.sql("SELECT llm_calls, total_tokens, cost_usd FROM engagements") == [(1, 10, 0.25)]


def test_usage_that_only_the_state_tells_of_a_call_in_a_step_inside_counts_once(on):
    model = FakeLLM(replies=[AIMessage("hi")])

    def node(_: Any) -> Any:
        in_a_block(lambda: model.invoke("hello"))
        return {"llm_calls": [dict(CAPTURED)]}

    run(node)
    assert spent(on) == (1, 0, 10)


# -- told in two places ----------------------------------------------------------------------------


def test_a_call_under_its_key_and_among_the_events_counts_once(on):
    tool = {"name": "look_up", "arguments": {"area": "x"}}
    run(
        lambda _: {
            "llm_calls": [dict(CALL)],
            "tool_calls": [dict(tool)],
            "events": [
                {"kind": "llm_call", "payload": dict(CALL)},
                {"kind": "llm_call", "payload": dict(CALL)},  # another one
                {"kind": "llm_call", "payload": {**CALL, "input_tokens": 6}},
                {"kind": "tool_call", "payload": dict(tool)},
                {"kind": "tool_call", "payload": {**tool, "arguments": {"area": "y"}}},
            ],
        }
    )
    assert spent(on) == (3, 2, 10 + 10 + 11)


def test_the_very_same_call_in_two_places_counts_once(on):
    call = dict(CALL)
    run(lambda _: {"events": [{"kind": "llm_call", "payload": call}] * 2, "llm_calls": [call]})
    assert spent(on) == (1, 0, 10)


# -- states of other kinds -------------------------------------------------------------------------


class Model(BaseModel):
    """A state that says of each field whether it was set."""

    llm_calls: list[dict[str, Any]] = []
    tool_calls: list[dict[str, Any]] = [{"name": "never"}]


@dataclass
class Plain:
    """A state with its fields in a dict."""

    llm_calls: list[dict[str, Any]] = field(default_factory=list)


@dataclass(slots=True)
class Slotted:
    """A state without a dict."""

    llm_calls: list[dict[str, Any]] = field(default_factory=list)


class Watchful(Model):
    """A state that does something when it is asked."""

    def __getattribute__(self, name: str) -> Any:
        if name in ("llm_calls", "events"):
            asked.append(name)
        return super().__getattribute__(name)


asked: list[str] = []


@pytest.mark.parametrize("kind", [Model, Plain, Slotted])
@pytest.mark.parametrize("around", [lambda state: state, lambda state: Command(update=state)])
def test_models_and_dataclasses_are_read_as_dicts_are(on, kind, around):
    returned = kind(llm_calls=[dict(CALL)])
    before = repr(returned)
    run(lambda _: around(returned), state=kind)
    assert spent(on) == (1, 0, 10)
    assert repr(returned) == before


@pytest.mark.parametrize("kind", [Model, Plain, Slotted])
def test_a_state_that_is_added_to_and_returned_is_read(on, kind):
    def node(state: Any) -> Any:
        state.llm_calls.append(dict(CALL))
        return state

    builder = StateGraph(kind).add_node("a", node).add_edge(START, "a")
    builder.add_node("b", node).add_edge("a", "b")
    builder.compile().invoke({})
    assert spent(on) == (2, 0, 20)


def test_reading_a_state_asks_no_code_of_the_users(on, flow_with):
    def count() -> int:
        asked.clear()
        run(lambda _: Watchful(llm_calls=[dict(CALL)]), state=Watchful)
        return len(asked)

    with_keys = count()
    assert spent(on) == (1, 0, 10)
    flow_with(state_keys=False, ledger=None)
    assert count() == with_keys


# -- what is hostile -------------------------------------------------------------------------------


class Hostile(dict[Any, Any]):
    """A dict that does not answer."""

    def get(self, *_: Any) -> Any:
        raise RuntimeError

    keys = __getitem__ = __iter__ = get


class Word(str):
    """A text that does not answer."""

    __slots__ = ()

    def lower(self) -> Any:
        raise RuntimeError


class Untrue:
    """What is neither true nor false."""

    def __bool__(self) -> bool:
        raise RuntimeError


def test_a_dict_of_any_kind_is_read_as_it_lies_there(on):
    run(
        lambda _: {
            "llm_calls": [Hostile(CALL), dict(CALL), {**CALL, "model": Word("m")}],
            "events": [Hostile(kind="tool_call", payload=Hostile(name="t"))],
        }
    )
    assert spent(on) == (3, 1, 30)


def test_an_entry_that_cannot_be_read_is_lost_alone(on):
    guard.set_strict(False)
    unreadable = {"schema": "S", "values": 1, "valid": Untrue()}
    run(
        lambda _: {
            "llm_calls": [dict(CALL)],
            "extraction": [unreadable, {"schema": "T", "values": 1}],
        }
    )
    assert spent(on) == (1, 0, 10)
    assert on.sql("SELECT name FROM events WHERE kind = 'extraction'") == [("T",)]
    assert guard.counts() == {"state_keys.entry": 1}


# -- whether an extraction is valid ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("told", "valid"),
    [
        ({}, True),
        ({"error": "no"}, False),
        ({"valid": True, "error": "a remark"}, True),
        *(({"valid": said}, False) for said in (False, 0, None, [], "false", "False", "")),
        *(({"valid": said}, True) for said in (1, "true", "yes", [0])),
    ],
)
def test_an_extraction_is_valid_where_it_says_so(on, told, valid):
    run(lambda _: {"extraction": {"schema": "S", "values": 1, **told}})
    [(payload,)] = on.sql("SELECT payload FROM events WHERE kind = 'extraction'")
    assert json.loads(payload)["valid"] is valid
