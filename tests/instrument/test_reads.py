"""What finding a thread costs its checkpointer, and that what is remembered of it holds."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from graphs import chain
from langchain_core.runnables import RunnableConfig  # noqa: TC002 - read by LangGraph
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.types import StateUpdate

from spanflow import guard
from spanflow.capture import lineage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from conftest import Flow

THREAD: Any = {"configurable": {"thread_id": "t"}}


@pytest.fixture(autouse=True)
def _no_memory() -> Iterator[None]:
    lineage.forget()
    yield
    lineage.forget()


class Counting(InMemorySaver):
    """A checkpointer that notes each read: of one checkpoint, or of a list of them."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: list[str] = []

    def get_tuple(self, config: Any) -> Any:
        self.reads.append("get")
        return super().get_tuple(config)

    def list(self, config: Any, **kwargs: Any) -> Any:
        self.reads.append("list")
        return super().list(config, **kwargs)


def app_on(saver: Any) -> Any:
    app = chain("a", "b")
    app.checkpointer = saver
    return app


def ours(app: Any, config: Any = THREAD, value: Any = None, *, parallel: bool = False) -> list[str]:
    """The reads of a run beside the one that LangGraph itself does first thing."""
    saver = app.checkpointer
    saver.reads.clear()
    given = {"log": []} if value is None else value
    if parallel:
        asyncio.run(app.ainvoke(given, config))
    else:
        app.invoke(given, config)
    assert saver.reads[-1] == "get"
    return saver.reads[:-1]


def engagements(flow: Flow) -> list[int]:
    """Turns of each engagement, by start."""
    return [turns for (turns,) in flow.sql("SELECT turns FROM engagements ORDER BY started_at")]


# -- how often it is read --------------------------------------------------------------------------


def test_langgraph_itself_reads_once(flow: Flow) -> None:
    """What the numbers below stand on."""
    app = app_on(Counting())
    left_out = {**THREAD, "metadata": {"spanflow_enabled": False}}
    for _ in range(2):
        assert ours(app, left_out) == []


@pytest.mark.parametrize("parallel", [False, True])
def test_a_thread_is_read_once_and_then_remembered(flow: Flow, parallel: bool) -> None:
    app = app_on(Counting())
    assert ours(app, parallel=parallel) == ["get"]
    for _ in range(5):
        assert ours(app, parallel=parallel) == []
    lineage.forget()  # as on another worker
    assert ours(app, parallel=parallel) == ["get"]
    assert engagements(flow) == [7]


@pytest.mark.parametrize("parallel", [False, True])
def test_an_edited_state_costs_one_read_more(flow: Flow, parallel: bool) -> None:
    app = app_on(Counting())
    ours(app, parallel=parallel)
    app.update_state(THREAD, {"log": ["edited"]})
    assert ours(app, parallel=parallel) == ["get", "list"]
    assert ours(app, parallel=parallel) == []
    assert engagements(flow) == [3]


@pytest.mark.parametrize(("begin", "more"), [(0, 1), (-1, 2)])
def test_a_run_told_where_to_begin_reads_there_too(flow: Flow, begin: int, more: int) -> None:
    def reads(**metadata: Any) -> int:
        app = app_on(Counting())
        app.invoke({"log": []}, THREAD)
        config = list(app.get_state_history(THREAD))[begin].config
        app.checkpointer.reads.clear()
        app.invoke({"log": []}, {**config, "metadata": metadata})
        return len(app.checkpointer.reads)

    assert reads() - reads(spanflow_enabled=False) == more


def test_without_a_thread_or_a_checkpointer_nothing_is_read(flow: Flow) -> None:
    saver = Counting()
    app = app_on(saver)
    chain("a").invoke({"log": []}, THREAD)
    app.copy(update={"checkpointer": False}).invoke({"log": []}, THREAD)
    assert saver.reads == []


def test_the_thread_is_the_same_as_number_and_as_text(flow: Flow) -> None:
    app = app_on(Counting())
    ours(app, {"configurable": {"thread_id": 7}})
    assert ours(app, {"configurable": {"thread_id": "7"}}) == []
    assert engagements(flow) == [2]


def test_a_run_among_ten_thousand_threads(flow: Flow) -> None:
    saver = Counting()
    app = app_on(saver)
    ours(app)
    for number in range(10_000):
        lineage.remember(saver, str(number), "", lineage.Lineage(str(number), None))
    assert ours(app) == ["get"]
    assert ours(app) == []
    assert engagements(flow) == [3]


# -- what cannot be read ---------------------------------------------------------------------------


class Unreadable(InMemorySaver):
    """A checkpointer whose first read fails."""

    failed = False

    def get_tuple(self, config: Any) -> Any:
        if not self.failed:
            self.failed = True
            msg = "no connection"
            raise ConnectionError(msg)
        return super().get_tuple(config)


@pytest.mark.parametrize("parallel", [False, True])
def test_a_read_that_fails_does_not_stop_the_run(flow: Flow, parallel: bool) -> None:
    guard.set_strict(False)
    app = app_on(Unreadable())
    if parallel:
        run = asyncio.run(app.ainvoke({"log": []}, THREAD))
    else:
        run = app.invoke({"log": []}, THREAD)
    assert run["log"] == ["a", "b"]
    assert guard.counts() == {"lineage.find": 1}
    assert engagements(flow) == [1]


class Unlisted(InMemorySaver):
    """A checkpointer that cannot list checkpoints."""

    def list(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError


@pytest.mark.parametrize("parallel", [False, True])
def test_a_checkpointer_that_cannot_list(flow: Flow, parallel: bool) -> None:
    app = app_on(Unlisted())
    app.invoke({"log": []}, THREAD)
    app.update_state(THREAD, {"log": ["edited"]})
    if parallel:
        asyncio.run(app.ainvoke({"log": []}, THREAD))
    else:
        app.invoke({"log": []}, THREAD)
    assert flow.sql("SELECT kind FROM turns ORDER BY started_at") == [("new",), ("message",)]
    assert engagements(flow) == [2]


class Unhashable(Counting):
    """A checkpointer that no cache can hold."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return self is other


def test_a_checkpointer_that_cannot_be_remembered_is_read_each_time(flow: Flow) -> None:
    app = app_on(Unhashable())
    assert [ours(app) for _ in range(3)] == [["get"]] * 3
    assert engagements(flow) == [3]


# -- what is remembered holds ----------------------------------------------------------------------


def test_a_deleted_thread_begins_anew(flow: Flow, tmp_path: Path) -> None:
    with SqliteSaver.from_conn_string(str(tmp_path / "saver.db")) as sqlite:
        for saver in (InMemorySaver(), sqlite):
            app = app_on(saver)
            app.invoke({"log": []}, THREAD)
            saver.delete_thread("t")
            app.invoke({"log": []}, THREAD)
            app.invoke({"log": []}, THREAD)
    assert engagements(flow) == [1, 2, 1, 2]


async def test_a_deleted_thread_begins_anew_asynchronously(flow: Flow, tmp_path: Path) -> None:
    async with AsyncSqliteSaver.from_conn_string(str(tmp_path / "saver.db")) as sqlite:
        for saver in (InMemorySaver(), sqlite):
            app = app_on(saver)
            await app.ainvoke({"log": []}, THREAD)
            await saver.adelete_thread(thread_id="t")
            await app.ainvoke({"log": []}, THREAD)
    assert engagements(flow) == [1, 1, 1, 1]


def test_a_thread_deleted_through_another_object_of_the_store(flow: Flow, tmp_path: Path) -> None:
    """As where an endpoint opens the store anew to delete a conversation."""
    path = str(tmp_path / "saver.db")
    with SqliteSaver.from_conn_string(path) as saver:
        app = app_on(saver)
        app.invoke({"log": []}, THREAD)
        with SqliteSaver.from_conn_string(path) as another:
            another.delete_thread("t")
        app.invoke({"log": []}, THREAD)
    assert engagements(flow) == [1, 1]


def test_other_threads_are_still_remembered(flow: Flow) -> None:
    saver = Counting()
    app = app_on(saver)
    other: Any = {"configurable": {"thread_id": "other"}}
    ours(app)
    ours(app, other)
    saver.delete_thread("t")
    assert ours(app, other) == []


def test_a_thread_deleted_while_it_runs_is_not_remembered_again(flow: Flow) -> None:
    saver = InMemorySaver()
    app = app_on(saver)
    app.invoke({"log": []}, THREAD)
    left = app.stream({"log": []}, THREAD)
    next(left)
    saver.delete_thread("t")
    left.close()
    assert lineage.recall(saver, "t", "") is None
    saver.delete_thread("t")  # what the abandoned run may still have written
    app.invoke({"log": []}, THREAD)
    assert engagements(flow) == [2, 1]


class Served(InMemorySaver):
    """A checkpointer with every method that changes threads."""

    def prune(self, thread_ids: Any, *, strategy: str = "keep_latest") -> None:
        for thread in thread_ids:
            self.delete_thread.__wrapped__(thread)  # type: ignore[attr-defined] - not seen by us

    async def aprune(self, thread_ids: Any, *, strategy: str = "keep_latest") -> None:
        self.prune.__wrapped__(thread_ids)  # type: ignore[attr-defined]

    def delete_for_runs(self, run_ids: Any) -> None:
        self.prune.__wrapped__(list(self.storage))  # type: ignore[attr-defined]

    async def adelete_for_runs(self, run_ids: Any) -> None:
        self.prune.__wrapped__(list(self.storage))  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "change",
    [
        lambda saver: saver.prune(["t", "u"], strategy="delete"),
        lambda saver: saver.prune(thread_ids=("t",)),
        lambda saver: asyncio.run(saver.aprune(["t"])),
        lambda saver: saver.delete_for_runs(["r"]),
        lambda saver: asyncio.run(saver.adelete_for_runs(["r"])),
    ],
)
def test_whatever_deletes_threads_is_seen(flow: Flow, change: Callable[[Any], None]) -> None:
    saver = Served()
    app = app_on(saver)
    app.invoke({"log": []}, THREAD)
    change(saver)
    app.invoke({"log": []}, THREAD)
    assert engagements(flow) == [1, 1]


async def test_every_update_of_a_state_is_seen(flow: Flow) -> None:
    saver = Counting()
    app = app_on(saver)
    update = {"log": ["edited"]}
    await app.ainvoke({"log": []}, THREAD)

    async def seen() -> bool:
        known = lineage.recall(saver, "t", "") is None
        await app.ainvoke({"log": []}, THREAD)
        return known

    assert not await seen()
    app.update_state(THREAD, update)
    assert await seen()
    await app.aupdate_state(config=THREAD, values=update)
    assert await seen()
    app.bulk_update_state(THREAD, [[StateUpdate(update, "a")]])
    assert await seen()
    await app.abulk_update_state(THREAD, [[StateUpdate(update, "a")]])
    assert await seen()
    assert engagements(flow) == [6]


def test_an_update_made_inside_another_run_does_not_take_the_thread_over(flow: Flow) -> None:
    """The running graph's scalar comes along where its config does."""
    worker = app_on(InMemorySaver())
    worker.invoke({"log": []}, {"configurable": {"thread_id": "w"}})

    def hand_over(state: Any, config: RunnableConfig) -> Any:
        there: Any = {"configurable": {**config["configurable"], "thread_id": "w"}}
        there["configurable"].update(checkpoint_ns="", __pregel_checkpointer=worker.checkpointer)
        worker.update_state(there, {"log": ["handed over"]})
        return {"log": []}

    outer = chain("hand_over", hand_over=hand_over)
    outer.checkpointer = InMemorySaver()
    outer.invoke({"log": []}, THREAD)
    worker.invoke({"log": []}, {"configurable": {"thread_id": "w"}})
    assert flow.sql("SELECT conversation_id, turns FROM engagements ORDER BY 1") == [
        ("t", 1),
        ("w", 2),
    ]
    assert flow.sql("SELECT kind FROM turns WHERE kind = 'fork'") == []


def test_uninstrumenting_restores_every_method(flow: Flow) -> None:
    import spanflow

    saver = Served()
    app = app_on(saver)
    app.invoke({"log": []}, THREAD)
    assert hasattr(InMemorySaver.delete_thread, "__wrapped__")
    spanflow.uninstrument()
    for owner, name in (
        (InMemorySaver, "delete_thread"),
        (InMemorySaver, "adelete_thread"),
        (Served, "prune"),
        (Served, "adelete_for_runs"),
        (type(app).__mro__[1], "update_state"),
        (type(app).__mro__[1], "abulk_update_state"),
    ):
        assert not hasattr(getattr(owner, name), "__wrapped__"), name


# -- two runs at once ------------------------------------------------------------------------------


class Slow(InMemorySaver):
    """A checkpointer that takes its time, as one across a network does."""

    def get_tuple(self, config: Any) -> Any:
        time.sleep(0.02)
        return super().get_tuple(config)

    async def aget_tuple(self, config: Any) -> Any:
        await asyncio.sleep(0.02)
        return super().get_tuple(config)


async def test_two_first_messages_at_once_are_one_engagement(flow: Flow) -> None:
    app = app_on(Slow())
    await asyncio.gather(*(app.ainvoke({"log": []}, THREAD) for _ in range(3)))
    assert engagements(flow) == [3]


def test_two_first_messages_on_two_threads_are_one_engagement(flow: Flow) -> None:
    app = app_on(Slow())
    runs = [threading.Thread(target=app.invoke, args=({"log": []}, THREAD)) for _ in range(4)]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    assert engagements(flow) == [4]
