"""Pauses, resumes and messages through real checkpointers, wherever they are given."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from graphs import State, chain
from langchain_core.messages import AIMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.func import entrypoint, task
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from langgraph.types import Command, interrupt

from spanflow.capture import lineage

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from conftest import Flow

KEPT = lineage._cache  # noqa: SLF001 - cleared, as on a worker that has not seen the thread
THREAD: Any = {"configurable": {"thread_id": "t"}}


@pytest.fixture(autouse=True)
def _no_memory() -> Iterator[None]:
    """Nothing is remembered of threads of other tests."""
    KEPT.clear()
    yield
    KEPT.clear()


def asking(question: str = "confirm") -> Any:
    def ask(state: State) -> State:
        return {"log": [interrupt({"awaiting": question})]}

    return ask


def builder() -> StateGraph[Any]:
    made = StateGraph(State)
    made.add_node("qualify", asking())
    made.add_node("answer", lambda state: {"log": ["answer"]})
    made.add_edge(START, "qualify")
    made.add_edge("qualify", "answer")
    return made


def forget() -> None:
    """Make the next turn read its checkpoint, as another worker would."""
    KEPT.clear()


PAUSED_AND_RESUMED = [("qualify", "waiting"), ("qualify", "completed"), ("answer", "completed")]


def test_sqlite_pauses_and_resumes(flow: Flow, tmp_path: Path) -> None:
    for value in ({"log": []}, Command(resume={"confirm": True})):
        with SqliteSaver.from_conn_string(str(tmp_path / "saver.db")) as saver:
            result = builder().compile(checkpointer=saver).invoke(value, THREAD)
    assert result["log"] == [{"confirm": True}, "answer"]
    assert flow.steps() == PAUSED_AND_RESUMED
    assert flow.sql("SELECT status, turns, errors FROM engagements") == [("completed", 2, 0)]
    assert flow.sql("SELECT kind, outcome FROM turns ORDER BY started_at") == [
        ("new", "paused"),
        ("resume", "completed"),
    ]
    assert flow.sql("SELECT label, resolution FROM waits") == [("confirm", "answered")]


async def test_asynchronous_sqlite_pauses_and_resumes(flow: Flow, tmp_path: Path) -> None:
    for value in ({"log": []}, Command(resume="yes")):
        async with AsyncSqliteSaver.from_conn_string(str(tmp_path / "saver.db")) as saver:
            result = await builder().compile(checkpointer=saver).ainvoke(value, THREAD)
    assert result["log"] == ["yes", "answer"]
    assert flow.steps() == PAUSED_AND_RESUMED
    assert flow.sql("SELECT status, turns, errors FROM engagements") == [("completed", 2, 0)]


async def test_asynchronous_sqlite_streams(flow: Flow, tmp_path: Path) -> None:
    async with AsyncSqliteSaver.from_conn_string(str(tmp_path / "saver.db")) as saver:
        app = builder().compile(checkpointer=saver)
        for value in ({"log": []}, Command(resume="yes")):
            async for _ in app.astream(value, THREAD, stream_mode=["updates", "values"]):
                pass
            forget()
    assert flow.steps() == PAUSED_AND_RESUMED


def test_messages_on_one_thread_of_sqlite(flow: Flow, tmp_path: Path) -> None:
    for thread in ("t", "t", "other", "t"):
        with SqliteSaver.from_conn_string(str(tmp_path / "saver.db")) as saver:
            app = chain("a")
            app.checkpointer = saver
            app.invoke({"log": []}, {"configurable": {"thread_id": thread}})
    assert flow.sql("SELECT conversation_id, turns FROM engagements ORDER BY 1") == [
        ("other", 1),
        ("t", 3),
    ]
    assert flow.sql("SELECT kind FROM turns WHERE conversation_id = 't' ORDER BY started_at") == [
        ("new",),
        ("message",),
        ("message",),
    ]
    assert flow.one("SELECT count(previous_turn_id) FROM turns") == 2
    links = [len(s.links) for s in flow.spans if s.name.startswith("invoke_workflow")]
    assert links == [0, 1, 0, 1]


def test_fresh_input_on_a_paused_thread_supersedes_the_wait(flow: Flow) -> None:
    app = builder().compile(checkpointer=InMemorySaver())
    app.invoke({"log": []}, THREAD)
    app.invoke({"log": ["never mind"]}, THREAD)
    assert flow.sql("SELECT kind, outcome FROM turns ORDER BY started_at") == [
        ("new", "paused"),
        ("message", "paused"),
    ]
    assert flow.sql("SELECT resolution, is_open FROM waits ORDER BY asked_at") == [
        ("superseded", False),
        (None, True),
    ]
    assert flow.sql("SELECT status, turns FROM engagements") == [("paused", 2)]


def test_a_saver_given_for_the_run_only(flow: Flow) -> None:
    saver = InMemorySaver()
    app = builder().compile()
    config: Any = {"configurable": {"thread_id": "t", "__pregel_checkpointer": saver}}
    app.invoke({"log": []}, config)
    forget()
    app.invoke(Command(resume="yes"), config)
    assert flow.sql("SELECT status, turns FROM engagements") == [("completed", 2)]
    assert flow.one("SELECT bool_and(on_thread) FROM turns") is True


def test_a_saver_set_on_a_copy_of_the_graph(flow: Flow) -> None:
    app = builder().compile()
    copy = app.copy(update={"checkpointer": InMemorySaver()})
    copy.invoke({"log": []}, THREAD)
    forget()
    copy.with_config({"tags": ["x"]}).invoke(Command(resume="yes"), THREAD)
    assert flow.sql("SELECT status, turns FROM engagements") == [("completed", 2)]


@pytest.mark.parametrize("durability", ["exit", "sync", "async"])
def test_however_durable_the_checkpoints_are(flow: Flow, tmp_path: Path, durability: Any) -> None:
    for value in ({"log": []}, Command(resume="yes"), {"log": []}):
        with SqliteSaver.from_conn_string(str(tmp_path / "saver.db")) as saver:
            app = builder().compile(checkpointer=saver)
            app.invoke(value, THREAD, durability=durability)
    assert flow.sql("SELECT kind, outcome FROM turns ORDER BY started_at") == [
        ("new", "paused"),
        ("resume", "completed"),
        ("message", "paused"),
    ]
    assert flow.sql("SELECT turns FROM engagements") == [(3,)]


def test_the_functional_api(flow: Flow) -> None:
    @task
    def ask(what: str) -> str:
        return f"{what}: {interrupt('sure?')}"

    @entrypoint(checkpointer=InMemorySaver())
    def agent(what: str, *, previous: Any = None) -> Any:
        return entrypoint.final(value=ask(what).result(), save=what)

    agent.invoke("pay", THREAD)
    forget()
    assert agent.invoke(Command(resume="yes"), THREAD) == "pay: yes"
    agent.invoke("again", THREAD)
    agent.update_state(THREAD, "edited")
    agent.invoke("again", THREAD)
    assert flow.sql("SELECT kind FROM turns ORDER BY started_at") == [
        ("new",),
        ("resume",),
        ("message",),
        ("message",),
    ]
    assert flow.sql("SELECT turns FROM engagements") == [(4,)]


# -- subgraphs -------------------------------------------------------------------------------------


def around(inner: Any, saver: Any) -> Any:
    made = StateGraph(State)
    made.add_node("before", lambda state: {"log": ["before"]})
    made.add_node("sub", inner)
    made.add_node("after", lambda state: {"log": ["after"]})
    made.add_edge(START, "before")
    made.add_edge("before", "sub")
    made.add_edge("sub", "after")
    return made.compile(checkpointer=saver)


@pytest.mark.parametrize("own", [None, True])
def test_an_interrupt_inside_a_subgraph(flow: Flow, own: bool | None) -> None:
    app = around(builder().compile(checkpointer=own), InMemorySaver())
    app.invoke({"log": []}, THREAD)
    assert flow.steps() == [
        ("before", "completed"),
        ("sub", "waiting"),
        ("sub/qualify", "waiting"),
    ]
    assert flow.sql("SELECT status, errors FROM engagements") == [("paused", 0)]
    assert flow.sql("SELECT outcome FROM turns") == [("paused",)]
    assert not [span.name for span in flow.spans if span.status.status_code.name == "ERROR"]
    forget()
    app.invoke(Command(resume="yes"), THREAD)
    assert flow.steps()[3:] == [
        ("sub", "completed"),
        ("sub/qualify", "completed"),
        ("sub/answer", "completed"),
        ("after", "completed"),
    ]
    assert flow.sql("SELECT status, turns, errors FROM engagements") == [("completed", 2, 0)]
    assert flow.one("SELECT count(*) FROM events WHERE kind = 'error'") == 0


def test_a_paused_turn_says_where_it_waits(flow: Flow) -> None:
    around(builder().compile(), InMemorySaver()).invoke({"log": []}, THREAD)
    later = "(now() AT TIME ZONE 'UTC' + INTERVAL 31 MINUTE)::TIMESTAMP"
    assert flow.sql(f"SELECT status, dropped_at FROM engagements(as_of := {later})") == [
        ("abandoned", "sub/qualify")
    ]


async def test_an_interrupt_inside_a_subgraph_asynchronously(flow: Flow, tmp_path: Path) -> None:
    async with AsyncSqliteSaver.from_conn_string(str(tmp_path / "saver.db")) as saver:
        app = around(builder().compile(), saver)
        await app.ainvoke({"log": []}, THREAD)
        forget()
        await app.ainvoke(Command(resume="yes"), THREAD)
    assert flow.steps() == [
        ("before", "completed"),
        ("sub", "waiting"),
        ("sub/qualify", "waiting"),
        ("sub", "completed"),
        ("sub/qualify", "completed"),
        ("sub/answer", "completed"),
        ("after", "completed"),
    ]
    assert flow.sql("SELECT status, turns, errors FROM engagements") == [("completed", 2, 0)]


def test_an_interrupt_in_a_graph_called_inside_a_node(flow: Flow) -> None:
    inner = builder().compile()

    def node(state: State) -> State:
        return {"log": inner.invoke({"log": []})["log"]}

    app = around(node, InMemorySaver())
    app.invoke({"log": []}, THREAD)
    assert flow.steps()[1:] == [("sub", "waiting"), ("sub/qualify", "waiting")]
    app.invoke(Command(resume="yes"), THREAD)
    assert flow.steps()[3:] == [
        ("sub", "completed"),
        ("sub/qualify", "completed"),
        ("sub/answer", "completed"),
        ("after", "completed"),
    ]
    assert flow.sql("SELECT status, errors FROM engagements") == [("completed", 0)]


def test_a_subgraph_keeps_its_own_memory_over_turns(flow: Flow) -> None:
    inner = chain("x").copy(update={"checkpointer": True})
    app = around(inner, InMemorySaver())
    for _ in range(2):
        app.invoke({"log": []}, THREAD)
        forget()
    assert flow.sql("SELECT status, turns, steps FROM engagements") == [("completed", 2, 8)]
    assert flow.sql("SELECT path, visit FROM steps WHERE path LIKE 'sub/%'") == [("sub/x", 1)] * 2


# -- tools and parallel branches -------------------------------------------------------------------


@tool
def confirm(what: str) -> str:
    """Ask a human."""
    return f"{what}: {interrupt({'awaiting': what})}"


def test_an_interrupt_inside_a_tool(flow: Flow) -> None:
    made = StateGraph(MessagesState)
    made.add_node("tools", ToolNode([confirm]))
    made.add_edge(START, "tools")
    app = made.compile(checkpointer=InMemorySaver())
    asked = AIMessage("", tool_calls=[{"name": "confirm", "args": {"what": "pay"}, "id": "c1"}])
    app.invoke({"messages": [asked]}, THREAD)
    assert flow.steps() == [("tools", "waiting")]
    assert flow.sql("SELECT name, status, error_type FROM tool_calls") == [
        ("confirm", "waiting", None)
    ]
    assert flow.sql("SELECT status, errors FROM engagements") == [("paused", 0)]
    assert not [span.name for span in flow.spans if span.status.status_code.name == "ERROR"]
    forget()
    result = app.invoke(Command(resume="yes"), THREAD)
    assert result["messages"][-1].content == "pay: yes"
    assert flow.steps() == [("tools", "waiting"), ("tools", "completed")]
    assert flow.sql("SELECT status FROM tool_calls ORDER BY started_at") == [("waiting",), ("ok",)]
    assert flow.sql("SELECT status, turns, errors FROM engagements") == [("completed", 2, 0)]


def parallel(saver: Any) -> Any:
    made = StateGraph(State)
    for name in ("left", "right"):
        made.add_node(name, asking(name))
        made.add_edge(START, name)
    made.add_node("plain", lambda state: {"log": ["plain"]})
    made.add_edge(START, "plain")
    made.add_node("join", lambda state: {"log": ["join"]})
    made.add_edge(["left", "right", "plain"], "join")
    return made.compile(checkpointer=saver)


def test_two_parallel_interrupts_are_answered_one_by_one(flow: Flow) -> None:
    app = parallel(InMemorySaver())
    asked = app.invoke({"log": []}, THREAD)["__interrupt__"]
    assert len(asked) == 2
    assert sorted(flow.steps()) == [
        ("left", "waiting"),
        ("plain", "completed"),
        ("right", "waiting"),
    ]
    assert flow.sql("SELECT status, errors FROM engagements") == [("paused", 0)]
    assert flow.sql("SELECT step_name, is_open FROM waits ORDER BY 1") == [
        ("left", True),
        ("right", True),
    ]
    first = {asked[0].id: "one"}
    [left] = app.invoke(Command(resume=first), THREAD)["__interrupt__"]
    assert flow.sql("SELECT status, turns FROM engagements") == [("paused", 2)]
    assert left.id == asked[1].id
    assert app.invoke(Command(resume={left.id: "two"}), THREAD)["log"][-1] == "join"
    assert flow.sql("SELECT status, turns, errors FROM engagements") == [("completed", 3, 0)]
    assert flow.sql("SELECT kind, outcome FROM turns ORDER BY started_at") == [
        ("new", "paused"),
        ("resume", "paused"),
        ("resume", "completed"),
    ]
    statuses = flow.sql("SELECT path, list(status ORDER BY started_at) FROM steps GROUP BY path")
    found = dict(statuses)
    assert found["join"] == found["plain"] == ["completed"]
    for name in ("left", "right"):
        assert found[name][-1] == "completed"
        assert set(found[name][:-1]) == {"waiting"}


async def test_two_parallel_interrupts_answered_together(flow: Flow) -> None:
    app = parallel(InMemorySaver())
    asked = (await app.ainvoke({"log": []}, THREAD))["__interrupt__"]
    answers = {one.id: "yes" for one in asked}
    await app.ainvoke(Command(resume=answers), THREAD)
    assert flow.sql("SELECT status, turns, errors FROM engagements") == [("completed", 2, 0)]
    assert flow.one("SELECT count(*) FROM waits WHERE resolution = 'answered'") == 2


def test_a_paused_thread_that_fails_on_resume(flow: Flow) -> None:
    def fails(state: State) -> State:
        interrupt("go on?")
        msg = "no"
        raise ValueError(msg)

    app = chain("a", a=fails)
    app.checkpointer = InMemorySaver()
    app.invoke({"log": []}, THREAD)
    with pytest.raises(ValueError, match="no"):
        app.invoke(Command(resume="yes"), THREAD)
    assert flow.steps() == [("a", "waiting"), ("a", "failed")]
    assert flow.sql("SELECT status, dropped_at, errors FROM engagements") == [("failed", "a", 1)]


def test_a_graph_that_pauses_on_a_thread_of_its_own_does_not_pause_the_turn(flow: Flow) -> None:
    """It hands its interrupt back as a result: the node that asked it goes on."""
    inner = builder().compile(checkpointer=InMemorySaver())

    def asks(state: State) -> State:
        found = inner.invoke({"log": []}, {"configurable": {"thread_id": "its own"}})
        return {"log": ["__interrupt__" in found]}

    assert chain("asks", "after", asks=asks).invoke({"log": []})["log"] == [True, "after"]
    assert flow.sql("SELECT outcome FROM turns") == [("completed",)]
    assert flow.sql("SELECT status FROM engagements") == [("completed",)]
    assert dict(flow.steps())["asks/qualify"] == "waiting"
    assert flow.sql("SELECT status FROM spans WHERE kind = 'workflow'") == [("paused",)]
