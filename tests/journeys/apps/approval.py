"""A booking that a human approves, as a program: `python approval.py SAVER WHERE DOES REPORT`.

Each process does one thing to the one thread and ends; the next goes on from the checkpoints. It
knows nothing of spanflow beyond what it says in a run's metadata. Its models' tokens are the script
that tests count by: INTAKE, APPROVE and BOOK, a call each time the node runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from graphs import State, llm
from langchain_core.runnables import RunnableLambda
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, interrupt

INTAKE, APPROVE, BOOK = (11, 7), (20, 10), (3, 1)
THREAD: Any = {"configurable": {"thread_id": "t-1"}}
OURS = "spanflow."


def graph() -> Any:
    """Build intake → approve (asks a human, once a thread) → book."""
    models = {"intake": llm(*INTAKE), "approve": llm(*APPROVE), "book": llm(*BOOK)}

    def intake(state: State) -> State:
        models["intake"].invoke("who are you?")
        return {"log": ["intake"]}

    def approve(state: State) -> State:
        models["approve"].invoke("what is asked?")
        if "approved" in map(str, state["log"]):
            return {"log": ["as before"]}
        answer = interrupt({"awaiting": "approval", "price": 80})
        perhaps_die("approve")
        return {"log": [answer, "approved"]}

    def book(state: State) -> State:
        models["book"].invoke("book it")
        perhaps_die("book")
        return {"log": ["booked"]}

    built = StateGraph(State)
    previous = START
    for node in (intake, approve, book):
        built.add_node(node.__name__, _both(node))
        built.add_edge(previous, node.__name__)
        previous = node.__name__
    built.add_edge(previous, END)
    return built


def perhaps_die(node: str) -> None:
    """Be killed, where the environment says that this process is to die in this node."""
    if os.environ.get("DIE_IN") == node:
        time.sleep(1.5)  # what LangGraph saves beside the node is saved by then
        os.kill(os.getpid(), signal.SIGKILL)


def _both(node: Any) -> Any:
    """Run in sync and in async code alike; a model's fake has nothing to await."""

    async def anode(state: State) -> State:
        return node(state)

    return RunnableLambda(node, afunc=anode)


def counting(saver: type[Any], reads: list[str]) -> type[Any]:
    """Make a saver's class note each read that spanflow itself asks for."""

    def note(what: str) -> None:
        if sys._getframe(2).f_globals["__name__"].startswith(OURS):  # noqa: SLF001 - who asks
            reads.append(what)

    class Counted(saver):
        def get_tuple(self, config: Any) -> Any:
            note("get_tuple")
            return super().get_tuple(config)

        async def aget_tuple(self, config: Any) -> Any:
            note("aget_tuple")
            return await super().aget_tuple(config)

        def list(self, *args: Any, **kwargs: Any) -> Any:
            note("list")
            return super().list(*args, **kwargs)

        def alist(self, *args: Any, **kwargs: Any) -> Any:
            note("alist")
            return super().alist(*args, **kwargs)

    return Counted


def open_saver(kind: str, where: str, reads: list[str]) -> Any:
    """Return the saver as the context manager that its package makes of it."""
    if kind == "sqlite":
        from langgraph.checkpoint.sqlite import SqliteSaver as Saver
    elif kind == "asqlite":
        from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver as Saver
    elif kind == "postgres":
        from langgraph.checkpoint.postgres import PostgresSaver as Saver
    else:
        from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver as Saver
    return counting(Saver, reads).from_conn_string(where)


def _given(does: str) -> tuple[Any, Any]:
    """Return input and config of the run that `does` stands for."""
    if does == "start":
        return {"log": ["hello"]}, {**THREAD, "metadata": {"user_id": "ada"}}
    if does == "answer":
        return Command(resume="yes"), {**THREAD, "metadata": {"spanflow_resolution": "approved"}}
    return ({"log": ["again"]} if does == "say" else None), THREAD


def sync(kind: str, where: str, does: str, reads: list[str]) -> Any:
    with open_saver(kind, where, reads) as saver:
        if hasattr(saver, "setup"):
            saver.setup()
        app = graph().compile(checkpointer=saver, name="booking")
        given, config = _given(does)
        if does == "fork":
            past = next(one for one in app.get_state_history(THREAD) if one.next == ("book",))
            config = app.update_state(past.config, {"log": ["cheaper"]}, as_node="approve")
        return app.invoke(given, config, durability="sync")


async def asynchronous(kind: str, where: str, does: str, reads: list[str]) -> Any:
    async with open_saver(kind, where, reads) as saver:
        await saver.setup()
        app = graph().compile(checkpointer=saver, name="booking")
        given, config = _given(does)
        if does == "fork":
            async with contextlib.aclosing(app.aget_state_history(THREAD)) as states:
                past = await anext(one async for one in states if one.next == ("book",))
            config = await app.aupdate_state(past.config, {"log": ["cheaper"]}, as_node="approve")
        return await app.ainvoke(given, config, durability="sync")


if __name__ == "__main__":
    kind, where, does, report = sys.argv[1:]
    asked: list[str] = []
    if kind.startswith("a"):
        state = asyncio.run(asynchronous(kind, where, does, asked))
    else:
        state = sync(kind, where, does, asked)
    told = {"reads": asked, "log": state["log"], "asks": len(state.get("__interrupt__", ()))}
    Path(report).write_text(json.dumps(told), encoding="utf-8")
