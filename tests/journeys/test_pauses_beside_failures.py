"""Pauses beside failures, attempts and handovers, on real graphs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from graphs import State, chain, llm
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.types import Command, RetryPolicy, interrupt

if TYPE_CHECKING:
    from conftest import Flow

pytestmark = pytest.mark.usefixtures("_bit_by_bit_and_at_once")

THREAD: Any = {"configurable": {"thread_id": "t"}}
SPENT = "total_tokens, replayed_tokens, retried_tokens, forked_tokens"


def asking(state: State) -> State:
    return {"log": [interrupt({"awaiting": "q"})]}


def beside(ask: Any) -> Any:
    """A graph in which `bad` fails once while `ask` asks."""
    model, broken = llm(20, 10), [True]

    def bad(state: State) -> State:
        model.invoke("try")
        time.sleep(0.3)  # the other one has asked by then
        if broken:
            broken.clear()
            msg = "boom"
            raise ValueError(msg)
        return {"log": ["fine"]}

    built = StateGraph(State)
    for node in (bad, ask):
        built.add_node(node.__name__, node)
        built.add_edge(START, node.__name__)
    built.add_node("join", lambda state: {"log": ["join"]})
    built.add_edge([bad.__name__, ask.__name__], "join")
    return built.compile(checkpointer=InMemorySaver())


def test_one_branch_fails_while_another_asks(flow: Flow) -> None:
    model = llm(20, 10)

    def ask(state: State) -> State:
        model.invoke("what is to be asked?")
        return asking(state)

    app = beside(ask)
    with pytest.raises(ValueError, match="boom"):
        app.invoke({"log": []}, THREAD)
    assert flow.sql("SELECT status, dropped_at FROM engagements") == [("failed", "bad")]
    app.invoke(None, THREAD)
    assert flow.sql("SELECT status FROM engagements") == [("paused",)]
    assert app.invoke(Command(resume="yes"), THREAD)["log"][-1] == "join"
    assert flow.sql(f"SELECT kind, outcome, {SPENT} FROM turns ORDER BY started_at") == [
        ("new", "failed", 60, 0, 0, 0),
        ("retry", "paused", 60, 30, 30, 0),
        ("resume", "completed", 30, 30, 0, 0),
    ]
    turns = flow.sql("SELECT turn_id FROM turns ORDER BY started_at")
    assert flow.sql("SELECT label, resolution, turn_id, answered_turn_id FROM waits") == [
        ("q", "answered", *turns[0], *turns[2])
    ]


def test_a_question_beside_a_failure_can_be_answered_at_once(flow: Flow) -> None:
    app = beside(asking)
    with pytest.raises(ValueError, match="boom"):
        app.invoke({"log": []}, THREAD)
    assert flow.sql("SELECT is_open FROM waits") == [(True,)]
    assert app.invoke(Command(resume="yes"), THREAD)["log"][-1] == "join"
    assert flow.sql("SELECT label, resolution, is_open FROM waits") == [("q", "answered", False)]
    assert flow.sql("SELECT kind, outcome, resolution FROM turns ORDER BY started_at") == [
        ("new", "failed", None),
        ("resume", "completed", "answered"),
    ]


def test_attempts_before_and_after_a_pause(flow: Flow) -> None:
    """Only what the last attempt had done is repeated by the resumption; the rest are attempts."""
    model, tries = llm(20, 10), iter(range(9))

    def ask(state: State) -> State:
        number = next(tries)
        model.invoke("before")
        if number == 0:
            raise ConnectionError
        answer = interrupt({"awaiting": "q"})
        model.invoke("after")
        if number == 2:
            raise ConnectionError
        return {"log": [answer]}

    built = StateGraph(State)
    policy = RetryPolicy(max_attempts=3, initial_interval=0.01)
    built.add_node("ask", ask, retry_policy=policy)
    built.add_edge(START, "ask")
    app = built.compile(checkpointer=InMemorySaver())
    app.invoke({"log": []}, THREAD)
    assert app.invoke(Command(resume="yes"), THREAD)["log"] == ["yes"]
    assert flow.sql(f"SELECT outcome, {SPENT} FROM turns ORDER BY started_at") == [
        ("paused", 60, 0, 30, 0),
        ("completed", 120, 30, 60, 0),
    ]


def test_an_answer_that_fails_is_retried_without_asking_again(flow: Flow) -> None:
    model, broken = llm(20, 10), [True]

    def ask(state: State) -> State:
        model.invoke("before")
        answer = interrupt({"awaiting": "q"})
        model.invoke("after")
        if broken:
            broken.clear()
            raise ConnectionError
        return {"log": [answer]}

    app = chain("ask", ask=ask).copy(update={"checkpointer": InMemorySaver()})
    app.invoke({"log": []}, THREAD)
    with pytest.raises(ConnectionError):
        app.invoke(Command(resume="yes"), THREAD)
    assert app.invoke(None, THREAD)["log"] == ["yes"]
    assert flow.sql(f"SELECT kind, outcome, {SPENT} FROM turns ORDER BY started_at") == [
        ("new", "paused", 30, 0, 0, 0),
        ("resume", "failed", 60, 30, 0, 0),
        ("retry", "completed", 60, 0, 60, 0),
    ]
    turns = flow.sql("SELECT turn_id FROM turns ORDER BY started_at")
    assert flow.sql("SELECT resolution, answered_turn_id FROM waits") == [("answered", *turns[1])]
    assert flow.sql("SELECT visit FROM steps") == [(1,)] * 3


def test_who_hands_over_has_done_its_work(flow: Flow) -> None:
    """A graph that leaves by a command to its parent was neither paused nor failed."""
    model = llm(20, 10)

    def hands_over(state: State) -> Any:
        model.invoke("to whom?")
        return Command(goto="bob", graph=Command.PARENT, update={"log": ["alice"]})

    built = StateGraph(State)
    built.add_node("alice", chain("work", work=hands_over))
    built.add_node("bob", chain("work", work=asking))
    built.add_edge(START, "alice")
    app = built.compile(checkpointer=InMemorySaver())
    app.invoke({"log": []}, THREAD)
    assert flow.sql("SELECT status FROM spans WHERE kind = 'workflow' ORDER BY started_at") == [
        ("completed",),
        ("paused",),
    ]
    app.invoke(Command(resume="yes"), THREAD)
    assert flow.sql(f"SELECT status, errors, {SPENT} FROM engagements") == [
        ("completed", 0, 30, 0, 0, 0)
    ]
    assert flow.sql("SELECT path, resolution FROM waits") == [("bob/work", "answered")]
