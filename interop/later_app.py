"""A graph that pauses and goes on, where somebody else is switched on after us and wraps its runs.

`LATER` names their instrumentor (`module:class`). Prints what stood around the runs afterwards: the
caller's own context, if nobody leaves anything standing there.
"""

from __future__ import annotations

import asyncio
import json
import os
from importlib import import_module
from typing import Any, TypedDict

from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.types import Command, interrupt
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

import spanflow


class State(TypedDict, total=False):
    """What the graph works on."""

    answer: Any


def _ask(_: State) -> State:
    return {"answer": interrupt("sure?")}


def _answer(_: State) -> State:
    return {"answer": "yes"}


def main() -> None:
    """Run the graph in every manner."""
    trace.set_tracer_provider(TracerProvider())
    spanflow.configure()
    module, _, name = os.environ["LATER"].partition(":")
    getattr(import_module(module), name)().instrument()

    builder = StateGraph(State)
    builder.add_node("ask", _ask)
    builder.add_node("answer", _answer)
    builder.add_edge(START, "ask")
    builder.add_edge("ask", "answer")
    app: Any = builder.compile(name="helper", checkpointer=InMemorySaver())
    stood: list[trace.Span] = []

    def config(thread: str) -> Any:
        return {"configurable": {"thread_id": thread}, "metadata": {"user_id": thread}}

    app.invoke({}, config("ada"))
    stood.append(trace.get_current_span())
    list(app.stream(Command(resume="yes"), config("ada")))
    stood.append(trace.get_current_span())

    async def run() -> None:
        await app.ainvoke({}, config("bob"))
        stood.append(trace.get_current_span())
        await app.ainvoke(Command(resume="yes"), config("bob"))
        stood.append(trace.get_current_span())

    asyncio.run(run())
    with trace.get_tracer("user").start_as_current_span("next request") as span:
        parent = getattr(span, "parent", None)
    spanflow.shutdown()
    left = [getattr(span, "name", "a span") for span in stood if span is not trace.INVALID_SPAN]
    print(json.dumps({"left_standing": left, "parent": parent is not None}))  # noqa: T201


if __name__ == "__main__":
    main()
