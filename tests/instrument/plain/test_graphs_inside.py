"""A graph that runs inside an engagement of plain Python is part of its turn, pauses and all."""

from __future__ import annotations

import operator
import sqlite3
from contextlib import nullcontext
from typing import TYPE_CHECKING, Annotated, Any, TypedDict

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import START, StateGraph
from langgraph.types import Command, Send, interrupt

import spanflow
from spanflow import guard

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Flow


class State(TypedDict, total=False):
    log: Annotated[list[Any], operator.add]


def asking(saver: Any, name: str = "flow") -> Any:
    """Graph `ask → done`: `ask` calls a model, pauses and calls it again."""

    def ask(state: State) -> State:
        spanflow.llm_call("m", input_tokens=10, output_tokens=2)
        with spanflow.step("inner"):
            pass
        interrupt({"awaiting": "approval"})
        spanflow.llm_call("m", input_tokens=5, output_tokens=1)
        return {"log": ["asked"]}

    def done(state: State) -> State:
        return {"log": ["done"]}

    graph = StateGraph(State).add_node("ask", ask).add_node("done", done)
    return graph.add_edge(START, "ask").add_edge("ask", "done").compile(saver, name=name)


CONFIG: Any = {"configurable": {"thread_id": "t1"}}
WAITS = "SELECT step_name, label, resolution, is_open FROM waits ORDER BY asked_at"
TURNS = "SELECT kind, outcome, conversation_id FROM turns ORDER BY started_at"


def run(graph: Any, value: Any, **identity: Any) -> Any:
    with spanflow.engagement("support", **{"id": "case-1", **identity}):
        with spanflow.step("load"):
            pass
        return graph.invoke(value, CONFIG)


def test_a_pause_inside_pauses_the_block_and_a_resume_inside_resumes_it(flow: Flow) -> None:
    graph = asking(InMemorySaver())
    run(graph, {"log": []})
    assert flow.sql("SELECT status, turns FROM engagements") == [("paused", 1)]
    assert flow.sql(WAITS) == [("ask", "approval", None, True)]
    answered = run(graph, Command(resume=True))
    assert answered["log"] == ["asked", "done"]
    assert flow.sql(TURNS) == [("new", "paused", "t1"), ("resume", "completed", "t1")]
    assert flow.sql(WAITS) == [("ask", "approval", "answered", False)]
    [(status, total, replayed)] = flow.sql(
        "SELECT status, total_tokens, replayed_tokens FROM engagements"
    )
    assert (status, total, replayed) == ("completed", 12 + 12 + 6, 12)
    assert flow.sql("SELECT path, replayed FROM steps WHERE replayed ORDER BY path") == [
        ("ask", True),
        ("ask/inner", True),
    ]


def test_what_comes_before_and_after_a_graph_leads_to_it_and_follows_it(flow: Flow) -> None:
    def plan(state: State) -> Any:
        return {"log": []}

    graph = (
        StateGraph(State)
        .add_node("plan", plan)
        .add_node("work", lambda state: {"log": [1]})
        .add_node("other", lambda state: {"log": [2]})
        .add_edge(START, "plan")
        .add_conditional_edges("plan", lambda _: [Send("work", {}), Send("other", {})])
        .compile()
    )
    with spanflow.engagement("support"):
        with spanflow.step("load"):
            pass
        graph.invoke({"log": []})
        with spanflow.step("save"):
            pass
    found = flow.sql("SELECT from_step, to_step FROM transitions ORDER BY ALL")
    assert found == [
        ("load", "plan"),
        ("other", "save"),
        ("plan", "other"),
        ("plan", "work"),
        ("work", "save"),
    ]


def test_steps_side_by_side_stand_in_one_place(flow: Flow) -> None:
    with spanflow.engagement("support"):
        with spanflow.step("a"):
            pass
        with spanflow.step("b"), spanflow.step("b1"):
            pass
        outer = spanflow.step("c")
        with outer:
            here = spanflow.step("d", engagement_id=None)
            with here:
                pass
    found = flow.sql("SELECT from_step, to_step FROM transitions ORDER BY ALL")
    assert found == [("a", "b"), ("b", "c")]


def test_a_graph_inside_is_a_nested_workflow(flow: Flow) -> None:
    run(asking(InMemorySaver()), {"log": []})
    assert flow.tree() == [
        [
            "invoke_workflow support",
            ["step load", ["invoke_workflow flow", [["step ask", ["chat m", "step inner"]]]]],
        ]
    ]


def test_the_threads_checkpoints_know_the_engagement(flow: Flow) -> None:
    graph = asking(InMemorySaver())
    run(graph, {"log": []})
    graph.invoke(Command(resume=True), CONFIG)
    assert flow.sql("SELECT engagement_id, status, turns FROM engagements") == [
        ("case-1", "completed", 2)
    ]
    assert flow.sql(WAITS) == [("ask", "approval", "answered", False)]


def test_new_input_on_a_paused_thread_supersedes_the_question(flow: Flow) -> None:
    graph = asking(InMemorySaver())
    run(graph, {"log": []})
    run(graph, {"log": []})
    assert [kind for kind, *_ in flow.sql(TURNS)] == ["new", "message"]
    assert [row[2:] for row in flow.sql(WAITS)] == [("superseded", False), (None, True)]


def test_what_follows_a_paused_graph_leaves_it_waiting(flow: Flow) -> None:
    graph = asking(InMemorySaver())
    with spanflow.engagement("support", id="case-1"):
        graph.invoke({"log": []}, CONFIG)
        with spanflow.step("notify"):
            pass
        StateGraph(State).add_node("tell", said).add_edge(START, "tell").compile().invoke({})
    assert flow.sql(TURNS) == [("new", "paused", "t1")]
    assert flow.sql(WAITS) == [("ask", "approval", None, True)]
    run(graph, Command(resume=True))
    assert flow.sql(WAITS) == [("ask", "approval", "answered", False)]


def said(state: State) -> State:
    return {"log": ["said"]}


@pytest.mark.parametrize("between", ["nothing", "resume", "with resume"])
def test_a_graph_that_goes_on_in_the_block_in_which_it_paused(flow: Flow, between: str) -> None:
    graph = asking(InMemorySaver())
    with spanflow.engagement("support", id="case-1", goals=["done"]):
        with spanflow.step("load"):
            pass
        graph.invoke({"log": []}, CONFIG)
        if between == "resume":
            spanflow.resume("case-1", resolution="approved")
        block = (
            spanflow.resume("case-1", resolution="approved") if between == "with resume" else None
        )
        with block or nullcontext():
            graph.invoke(Command(resume=True), CONFIG)
        with spanflow.step("thanks"):
            pass
    resolution = "answered" if between == "nothing" else "approved"
    assert flow.sql(TURNS) == [("new", "paused", "t1"), ("resume", "completed", "t1")]
    assert flow.sql(WAITS) == [("ask", "approval", resolution, False)]
    assert flow.sql("SELECT status, turns, total_tokens, replayed_tokens FROM engagements") == [
        ("completed", 2, 12 + 12 + 6, 12)
    ]
    assert flow.sql(
        "SELECT kind, path, status FROM steps JOIN turns USING (turn_id)"
        " WHERE parent_step_id IS NULL ORDER BY steps.started_at"
    ) == [
        ("new", "load", "completed"),
        ("new", "ask", "waiting"),
        ("resume", "ask", "completed"),
        ("resume", "done", "completed"),
        ("resume", "thanks", "completed"),
    ]


def test_new_input_in_the_block_in_which_it_paused_supersedes_the_question(flow: Flow) -> None:
    graph = asking(InMemorySaver())
    with spanflow.engagement("support", id="case-1"):
        graph.invoke({"log": []}, CONFIG)
        graph.invoke({"log": []}, CONFIG)
    assert flow.sql(TURNS) == [("new", "paused", "t1"), ("message", "paused", "t1")]
    assert [row[2:] for row in flow.sql(WAITS)] == [("superseded", False), (None, True)]


def test_a_step_around_both_waits_with_the_graph(flow: Flow) -> None:
    graph = asking(InMemorySaver())

    @spanflow.step
    def serve() -> None:
        graph.invoke({"log": []}, CONFIG)
        graph.invoke(Command(resume=True), CONFIG)
        spanflow.llm_call("m", total_tokens=7)

    with spanflow.engagement("support", id="case-1"):
        serve()
    assert flow.sql(TURNS) == [("new", "paused", "t1"), ("resume", "completed", "t1")]
    assert flow.sql("SELECT label, resolution, is_open FROM waits") == [
        ("approval", "answered", False)
    ]
    assert flow.one("SELECT status FROM steps WHERE path = 'serve'") == "waiting"
    assert flow.one("SELECT total_tokens FROM engagements") == 12 + 12 + 6 + 7


def test_two_threads_that_pause_in_one_block_are_told_apart(flow: Flow) -> None:
    graph = asking(InMemorySaver())
    first: Any = {"configurable": {"thread_id": "a"}}
    second: Any = {"configurable": {"thread_id": "b"}}
    with spanflow.engagement("support", id="case-1"):
        graph.invoke({"log": []}, first)
        graph.invoke({"log": []}, second)
        graph.invoke(Command(resume=True), first)
    assert flow.sql("SELECT outcome FROM turns ORDER BY started_at") == [("paused",), ("paused",)]
    assert flow.one("SELECT status FROM engagements") == "paused"


def test_a_breakpoint_inside_is_passed_by_going_on(flow: Flow) -> None:
    graph = asking(InMemorySaver())
    graph.interrupt_before_nodes = ["ask"]
    run(graph, {"log": []})
    assert flow.one("SELECT outcome FROM turns") == "paused"
    graph.interrupt_before_nodes = []
    run(graph, None)
    kinds = flow.sql("SELECT kind, resolution, is_open FROM waits ORDER BY asked_at")
    assert kinds == [("before", "answered", False), ("interrupt", None, True)]


def test_what_the_app_calls_its_answer_is_kept(flow: Flow) -> None:
    graph = asking(InMemorySaver())
    run(graph, {"log": []})
    config = {**CONFIG, "metadata": {"spanflow_resolution": "approved"}}
    with spanflow.engagement("support", id="case-1"):
        graph.invoke(Command(resume=True), config)
    assert flow.sql(WAITS) == [("ask", "approval", "approved", False)]


@pytest.mark.parametrize("resolution", ["gave_up", "expired", "approved"])
def test_a_job_answers_what_a_graph_asked_without_the_graph(flow: Flow, resolution: str) -> None:
    run(asking(InMemorySaver()), {"log": []})
    with spanflow.resume("case-1", resolution=resolution):
        pass
    assert flow.sql(WAITS) == [("ask", "approval", resolution, False)]
    status = ("completed", None) if resolution == "approved" else ("abandoned", "ask")
    assert flow.sql("SELECT status, dropped_at FROM engagements") == [status]


@pytest.mark.parametrize("is_answer", [True, False])
def test_a_graph_answers_or_gives_up_what_plain_code_asked(flow: Flow, is_answer: bool) -> None:
    with spanflow.engagement("support", id="case-1"), spanflow.step("confirm"):
        spanflow.pause("approval")
    graph = asking(InMemorySaver())
    if is_answer:
        with spanflow.resume("case-1", resolution="approved"):
            graph.invoke({"log": []}, CONFIG)
    else:
        run(graph, {"log": []})
    became = "approved" if is_answer else "superseded"
    assert flow.sql(WAITS) == [
        ("confirm", "approval", became, False),
        ("ask", "approval", None, True),
    ]


def test_a_new_block_gives_up_what_a_graph_asked(flow: Flow) -> None:
    run(asking(InMemorySaver()), {"log": []})
    with spanflow.engagement("support", id="case-1"), spanflow.step("other"):
        pass
    assert flow.sql(WAITS) == [("ask", "approval", "superseded", False)]


def test_another_saver_and_another_block_go_on(flow: Flow, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "threads.sqlite", check_same_thread=False) as connection:
        run(asking(SqliteSaver(connection)), {"log": []})
    connection.close()
    with sqlite3.connect(tmp_path / "threads.sqlite", check_same_thread=False) as connection:
        run(asking(SqliteSaver(connection)), Command(resume=True))
    connection.close()
    assert flow.sql("SELECT status, turns, replayed_tokens FROM engagements") == [
        ("completed", 2, 12)
    ]


async def test_so_it_is_in_async_code(flow: Flow) -> None:
    graph = asking(InMemorySaver())
    for value in ({"log": []}, Command(resume=True)):
        async with spanflow.engagement("support", id="case-1"):
            await graph.ainvoke(value, CONFIG)
    assert flow.sql(WAITS) == [("ask", "approval", "answered", False)]
    assert flow.one("SELECT status FROM engagements") == "completed"


def test_a_graph_that_fails_fails_the_block(flow: Flow) -> None:
    def broken(state: State) -> State:
        msg = "no desk"
        raise ValueError(msg)

    graph = StateGraph(State).add_node("desk", broken).add_edge(START, "desk").compile()
    with pytest.raises(ValueError, match="no desk"), spanflow.engagement("support"):
        graph.invoke({"log": []})
    assert flow.sql("SELECT status, dropped_at, errors FROM engagements") == [("failed", "desk", 1)]


@pytest.mark.parametrize("knows", ["the block's own pause", "the id", "nobody", "no engagement"])
def test_a_resume_that_cannot_find_its_pause_is_told_of(flow: Flow, knows: str) -> None:
    graph = asking(InMemorySaver())

    def ask() -> None:
        graph.invoke({"log": []}, CONFIG)

    def answer() -> None:
        graph.invoke(Command(resume=True), CONFIG)

    if knows == "the block's own pause":
        with spanflow.agent("host"):
            ask()
            answer()
    elif knows == "the id":
        for part in (ask, answer):
            with spanflow.engagement("support", id="case-1"), spanflow.agent("host"):
                part()
    elif knows == "nobody":
        for part in (ask, answer):
            spanflow.agent("host")(part)()
    else:
        for part in (ask, answer):
            spanflow.trace(part)()
    is_lost = knows == "nobody"
    assert guard.counts() == ({"resume.elsewhere": 1} if is_lost else {})
    assert [answer for (answer,) in flow.sql("SELECT resolution FROM waits")] == [
        None if is_lost else "answered"
    ]
