"""Runs that leave a thread's line: which turns are forks, and where they left from."""

from __future__ import annotations

import copy
import time
from typing import TYPE_CHECKING, Any

import pytest
from graphs import State, chain
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import START, StateGraph
from langgraph.types import Command, interrupt

from spanflow import semconv
from spanflow.capture import lineage

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from conftest import Flow

THREAD: Any = {"configurable": {"thread_id": "t"}}
COPY: Any = {"configurable": {"thread_id": "copy"}}


@pytest.fixture(autouse=True)
def _no_memory() -> Iterator[None]:
    forget()
    yield
    forget()


def forget() -> None:
    """Make the next turn read its checkpoint, as another worker would."""
    lineage.forget()


def forget_steps() -> None:
    """As on a worker that ran none of the steps before."""
    lineage._steps.clear()  # noqa: SLF001 - the process's memory is what is tested


def turns(flow: Flow) -> list[tuple[str, Any, Any]]:
    """Kind, number of the turn it left from, and superstep, of each turn by start."""
    rows = flow.sql(
        "SELECT turn_kind, span_id, origin_turn_id, origin_superstep FROM records "
        "WHERE kind = 'turn' ORDER BY started_ns"
    )
    numbers = {row[1]: number for number, row in enumerate(rows, 1)}
    return [(row[0], numbers.get(row[2]), row[3]) for row in rows]


def links(flow: Flow) -> list[dict[str, Any]]:
    """Of each turn by start: what its links of each kind lead to, by name."""
    names = {span.context.span_id: span.name for span in flow.spans if span.context}
    order = [span for span in flow.spans if semconv.TURN_KIND in (span.attributes or {})]
    order.sort(key=lambda span: span.start_time or 0)
    return [
        {
            str((link.attributes or {})[semconv.LINK_KIND]): names[link.context.span_id]
            for link in span.links
        }
        for span in order
    ]


def at_step(app: Any, step: int, config: Any = THREAD) -> Any:
    """The config of the checkpoint that was written after a superstep."""
    [found] = [s for s in app.get_state_history(config) if s.metadata["step"] == step]
    return found.config


def three(saver: Any) -> Any:
    app = chain("a", "b", "c")
    app.checkpointer = saver
    return app


def pausing(saver: Any) -> Any:
    builder = StateGraph(State)
    builder.add_node("a", lambda state: {"log": ["a"]})
    builder.add_node("ask", lambda state: {"log": [interrupt("sure?")]})
    builder.add_edge(START, "a")
    builder.add_edge("a", "ask")
    return builder.compile(checkpointer=saver)


def test_a_run_from_an_older_checkpoint_is_a_fork(flow: Flow) -> None:
    app = three(InMemorySaver())
    app.invoke({"log": []}, THREAD)
    app.invoke(None, at_step(app, 1))
    assert turns(flow) == [("new", None, None), ("fork", 1, 1)]
    assert links(flow)[1] == {"previous_turn": flow.spans[-1].name, "left_from": "step a"}
    assert flow.one("SELECT count(DISTINCT engagement_id) FROM turns") == 1


def test_a_fork_in_another_process_is_linked_to_the_turn_it_left_from(flow: Flow) -> None:
    app = three(InMemorySaver())
    app.invoke({"log": []}, THREAD)
    app.invoke({"log": []}, THREAD)
    forget_steps()
    app.invoke(None, at_step(app, 1))
    assert turns(flow)[2] == ("fork", 1, 1)
    [old, new] = flow.sql(
        "SELECT l->>'kind', l->>'span_id' = origin_turn_id FROM "
        "(SELECT origin_turn_id, unnest(links::JSON[]) AS l FROM records WHERE turn_kind = 'fork')"
        " ORDER BY 1"
    )
    assert (old, new) == (("left_from", True), ("previous_turn", False))


def test_an_update_of_an_older_checkpoint_makes_a_fork(flow: Flow) -> None:
    app = three(InMemorySaver())
    app.invoke({"log": []}, THREAD)
    edited = app.update_state(at_step(app, 2), {"log": ["edited"]})
    app.invoke(None, edited)
    assert turns(flow) == [("new", None, None), ("fork", 1, 2)]
    assert links(flow)[1]["left_from"] == "step b"
    # The fork is the thread's head from now on, and what follows is no fork again.
    app.invoke({"log": []}, THREAD)
    forget()
    app.invoke({"log": []}, THREAD)
    assert [kind for kind, _, _ in turns(flow)] == ["new", "fork", "message", "message"]


def test_the_update_need_not_be_named(flow: Flow) -> None:
    app = three(InMemorySaver())
    app.invoke({"log": []}, THREAD)
    app.update_state(at_step(app, 1), {"log": ["edited"]})
    app.update_state(THREAD, {"log": ["once more"]})
    app.invoke(None, THREAD)
    assert turns(flow) == [("new", None, None), ("fork", 1, 1)]


def test_a_fork_may_bring_new_input(flow: Flow) -> None:
    app = three(InMemorySaver())
    app.invoke({"log": []}, THREAD)
    app.invoke({"log": ["new"]}, at_step(app, 2))
    assert turns(flow)[1] == ("fork", 1, 2)


def test_a_fork_may_bring_an_answer(flow: Flow) -> None:
    app = pausing(InMemorySaver())
    app.invoke({"log": []}, THREAD)
    asked = app.get_state(THREAD).config
    app.invoke(Command(resume="yes"), THREAD)
    app.invoke(Command(resume="no"), asked)
    assert turns(flow) == [("new", None, None), ("resume", None, None), ("fork", 1, 1)]
    assert flow.sql(
        "SELECT answers::VARCHAR FROM records WHERE kind = 'turn' ORDER BY started_ns"
    ) == [
        (None,),
        ('["*"]',),
        ('["*"]',),
    ]


def test_the_heads_own_id_makes_no_fork(flow: Flow) -> None:
    app = pausing(InMemorySaver())
    app.invoke({"log": []}, THREAD)
    app.invoke(Command(resume="yes"), app.get_state(THREAD).config)
    app.invoke({"log": []}, app.get_state(THREAD).config)
    assert [kind for kind, _, _ in turns(flow)] == ["new", "resume", "message"]


@pytest.mark.parametrize("edits", [1, 3])
def test_an_update_of_the_head_is_part_of_the_pause(flow: Flow, edits: int) -> None:
    app = chain("a", "b")
    app.checkpointer = InMemorySaver()
    app.invoke({"log": []}, THREAD, interrupt_before=["b"])
    for _ in range(edits):
        app.update_state(THREAD, {"log": ["edited"]})
    app.invoke(None, THREAD)
    assert turns(flow) == [("new", None, None), ("resume", None, None)]
    assert flow.one("SELECT count(DISTINCT engagement_id) FROM turns") == 1


def test_an_unknown_checkpoint_is_no_fork_and_the_same_engagement(flow: Flow) -> None:
    app = three(InMemorySaver())
    app.invoke({"log": []}, THREAD)
    nowhere = {
        "configurable": {"thread_id": "t", "checkpoint_id": "1f000000-0000-6000-8000-000000000000"}
    }
    app.invoke({"log": []}, nowhere)
    assert [kind for kind, _, _ in turns(flow)] == ["new", "message"]
    assert flow.one("SELECT count(DISTINCT engagement_id) FROM turns") == 1


def test_a_fork_of_a_fork(flow: Flow) -> None:
    app = three(InMemorySaver())
    app.invoke({"log": []}, THREAD)
    app.invoke(None, at_step(app, 1))
    third = next(s for s in app.get_state_history(THREAD) if s.next == ("c",))
    app.invoke(None, third.config)
    assert [(kind, origin) for kind, origin, _ in turns(flow)] == [
        ("new", None),
        ("fork", 1),
        ("fork", 2),
    ]
    assert links(flow)[2]["left_from"] == "step b"


def test_after_a_superstep_of_several_steps_the_last_one_is_left_from(flow: Flow) -> None:
    builder = StateGraph(State)
    builder.add_node("slow", lambda state: time.sleep(0.3) or {"log": ["slow"]})
    builder.add_node("fast", lambda state: {"log": ["fast"]})
    builder.add_node("join", lambda state: {"log": ["join"]})
    for name in ("slow", "fast"):
        builder.add_edge(START, name)
    builder.add_edge(["slow", "fast"], "join")
    app = builder.compile(checkpointer=InMemorySaver())
    app.invoke({"log": []}, THREAD)
    app.invoke(None, at_step(app, 1))
    assert links(flow)[1]["left_from"] == "step slow"


def test_steps_of_a_subgraph_do_not_pass_for_the_graphs_own(flow: Flow) -> None:
    inner = chain("x", "y")
    app = chain("a", "sub", "c", sub=inner)
    app.checkpointer = InMemorySaver()
    app.invoke({"log": []}, THREAD)
    app.invoke(None, at_step(app, 1))
    assert links(flow)[1]["left_from"] == "step a"


# -- copied threads --------------------------------------------------------------------------------


class Copying(InMemorySaver):
    """A checkpointer that can copy a thread, as some servers' can."""

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        self.storage[target_thread_id] = copy.deepcopy(self.storage[source_thread_id])
        for key, value in list(self.blobs.items()):
            if key[0] == source_thread_id:
                self.blobs[(target_thread_id, *key[1:])] = value
        for key, value in list(self.writes.items()):
            if key[0] == source_thread_id:
                self.writes[(target_thread_id, *key[1:])] = value


def test_a_copied_thread_goes_on_as_a_fork_of_the_same_engagement(flow: Flow) -> None:
    saver = Copying()
    app = three(saver)
    app.invoke({"log": []}, THREAD)
    saver.copy_thread("t", "copy")
    app.invoke({"log": ["more"]}, COPY)
    app.invoke({"log": ["more"]}, COPY)
    forget()
    app.invoke({"log": ["more"]}, COPY)
    app.invoke({"log": ["more"]}, THREAD)
    assert turns(flow) == [
        ("new", None, None),
        ("fork", 1, 3),
        ("message", None, None),
        ("message", None, None),
        ("message", None, None),
    ]
    assert flow.one("SELECT count(DISTINCT engagement_id) FROM turns") == 1


def test_a_thread_that_is_copied_over_is_forgotten(flow: Flow) -> None:
    saver = Copying()
    app = three(saver)
    app.invoke({"log": []}, THREAD)
    app.invoke({"log": []}, COPY)
    saver.copy_thread(source_thread_id="t", target_thread_id="copy")
    app.invoke({"log": []}, COPY)
    assert [kind for kind, _, _ in turns(flow)] == ["new", "new", "fork"]
    assert flow.sql("SELECT turns FROM engagements ORDER BY started_at") == [(2,), (1,)]


def test_a_thread_that_a_nested_graph_went_on_with_belongs_to_that_engagement(flow: Flow) -> None:
    inner = chain("x").copy(update={"checkpointer": InMemorySaver()})
    own: Any = {"configurable": {"thread_id": "its own"}}

    def calls(state: State) -> State:
        return {"log": inner.invoke({"log": []}, own)["log"]}

    for saver in (None, InMemorySaver()):
        outer = chain("calls", calls=calls).copy(update={"checkpointer": saver})
        outer.invoke({"log": []}, THREAD)
        inner.invoke({"log": []}, own)
    kinds = flow.sql("SELECT kind, conversation_id FROM turns ORDER BY started_at")
    assert kinds == [("new", "t"), ("message", "its own")] * 2
    assert flow.sql("SELECT turns FROM engagements") == [(2,), (2,)]


# -- every checkpointer ----------------------------------------------------------------------------


def test_sqlite_forks(flow: Flow, tmp_path: Path) -> None:
    for round_ in range(3):
        with SqliteSaver.from_conn_string(str(tmp_path / "saver.db")) as saver:
            app = three(saver)
            if round_ == 0:
                app.invoke({"log": []}, THREAD)
            elif round_ == 1:
                app.invoke(None, at_step(app, 1))
            else:
                app.update_state(at_step(app, 0), {"log": ["edited"]}, as_node="a")
                app.invoke(None, THREAD)
    assert turns(flow) == [("new", None, None), ("fork", 1, 1), ("fork", 1, 0)]


async def test_asynchronous_sqlite_forks(flow: Flow, tmp_path: Path) -> None:
    async with AsyncSqliteSaver.from_conn_string(str(tmp_path / "saver.db")) as saver:
        app = three(saver)
        await app.ainvoke({"log": []}, THREAD)
        history = {s.metadata["step"]: s.config async for s in app.aget_state_history(THREAD)}
        await app.ainvoke(None, history[1])
        await app.aupdate_state(history[2], {"log": ["edited"]})
        await app.ainvoke(None, THREAD)
        await app.aupdate_state(THREAD, {"log": ["edited"]})
        await app.ainvoke({"log": []}, THREAD)
    assert turns(flow) == [
        ("new", None, None),
        ("fork", 1, 1),
        ("fork", 1, 2),
        ("message", None, None),
    ]
