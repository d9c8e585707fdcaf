"""Somebody else wraps a graph's runs as well, before us or after us: nothing is taken or left."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
import wrapt
from foreign import agent, chat, tracer
from graphs import State, chain
from langchain_core.callbacks import BaseCallbackHandler
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.pregel import Pregel
from langgraph.types import Command, interrupt
from opentelemetry import context as otel_context
from opentelemetry import trace

import spanflow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from conftest import Flow

LANGCHAIN = "opentelemetry.instrumentation.langchain"


@contextmanager
def wrapped(flow: Flow, order: str, streamed: Any, astreamed: Any) -> Iterator[None]:
    """Wrap the runs of all graphs, inside our own wrapper or outside of it."""
    originals = {}
    if order == "inside":
        spanflow.uninstrument()
    for name, around in (("stream", streamed), ("astream", astreamed)):
        originals[name] = vars(Pregel)[name]
        wrapt.wrap_function_wrapper(Pregel, name, around)
    if order == "inside":
        spanflow.configure(ledger=flow.ledger, ingest="off")
    try:
        yield
    finally:
        if order == "inside":
            spanflow.uninstrument()
        for name, original in originals.items():
            setattr(Pregel, name, original)


class Attaching(BaseCallbackHandler):
    """Puts a span's context in place where the graph's own run begins, to be put back later."""

    run_inline = True

    def __init__(self) -> None:
        self.tokens: list[Any] = []

    def on_chain_start(self, *_: Any, parent_run_id: Any = None, **__: Any) -> None:
        if parent_run_id is None:
            span = tracer("their.graphs").start_span("graph")
            span.end()
            context = trace.set_span_in_context(span)
            self.tokens.append(otel_context.attach(context))

    def put_back(self) -> None:
        while self.tokens:
            otel_context.detach(self.tokens.pop())


def _handing(inner: Any, args: Any, kwargs: Any, handler: Attaching) -> Any:
    given = (args[1] if len(args) > 1 else kwargs.pop("config", None)) or {}
    config = {**given, "callbacks": [*(given.get("callbacks") or []), handler]}
    return inner(args[0], config, *args[2:], **kwargs)


def attached_inside(inner: Any, _: Any, args: Any, kwargs: Any) -> Any:
    """Attach inside a piece and detach after it, as whoever waits for a callback does."""
    handler = Attaching()
    pieces = _handing(inner, args, kwargs, handler)
    while True:
        try:
            piece = next(pieces)
        except StopIteration:
            return
        finally:
            handler.put_back()
        yield piece


async def aattached_inside(inner: Any, _: Any, args: Any, kwargs: Any) -> Any:
    handler = Attaching()
    pieces = _handing(inner, args, kwargs, handler)
    while True:
        try:
            piece = await anext(pieces)
        except StopAsyncIteration:
            return
        finally:
            handler.put_back()
        yield piece


def told_around(inner: Any, graph: Any, args: Any, kwargs: Any) -> Any:
    """Tell of each run of a graph as an agent's, around it."""
    span = tracer(LANGCHAIN).start_span(f"invoke_agent {graph.get_name()}")
    token = otel_context.attach(trace.set_span_in_context(span))
    try:
        yield from inner(*args, **kwargs)
    finally:
        span.end()
        otel_context.detach(token)


async def atold_around(inner: Any, graph: Any, args: Any, kwargs: Any) -> Any:
    span = tracer(LANGCHAIN).start_span(f"invoke_agent {graph.get_name()}")
    token = otel_context.attach(trace.set_span_in_context(span))
    try:
        async for piece in inner(*args, **kwargs):
            yield piece
    finally:
        span.end()
        otel_context.detach(token)


def _invoked(app: Any) -> None:
    app.invoke({"log": []})


def _ainvoked(app: Any) -> None:
    """Run it, and look at the context in the very task that awaited it."""

    async def run() -> None:
        stood = otel_context.get_current()
        await app.ainvoke({"log": []})
        assert otel_context.get_current() == stood
        await asyncio.gather(*(app.ainvoke({"log": []}) for _ in range(3)))
        assert otel_context.get_current() == stood

    asyncio.run(run())


def _streamed(app: Any) -> None:
    stood = otel_context.get_current()
    for _ in app.stream({"log": []}):
        assert otel_context.get_current() == stood


def _left(app: Any) -> None:
    pieces = app.stream({"log": []})
    next(pieces)
    pieces.close()


@pytest.mark.parametrize("run", [_invoked, _ainvoked, _streamed, _left])
@pytest.mark.parametrize("order", ["outside", "inside"])
def test_what_they_attach_inside_and_detach_outside_leaves_the_caller_as_it_was(
    flow: Flow, order: str, run: Callable[[Any], None]
) -> None:
    app = chain("a", "b")
    with (
        wrapped(flow, order, attached_inside, aattached_inside),
        tracer("user").start_as_current_span("request") as request,
    ):
        stood = otel_context.get_current()
        run(app)
        assert otel_context.get_current() == stood
        assert trace.get_current_span() is request
    assert flow.sql("SELECT DISTINCT path FROM steps WHERE path NOT IN ('a', 'b')") == []


@pytest.mark.parametrize("order", ["outside", "inside"])
def test_agents_that_work_after_such_a_run_have_engagements_of_their_own(
    flow: Flow, order: str
) -> None:
    app = chain("a")
    with wrapped(flow, order, attached_inside, aattached_inside):
        app.invoke({"log": []})
        for name in ("ann", "bob"):
            with agent(name):
                chat(10, 0)
        with tracer("user").start_as_current_span("next") as span:
            assert span.parent is None  # pyright: ignore[reportAttributeAccessIssue]
    asked = "SELECT name, steps, llm_calls FROM engagements ORDER BY started_at"
    assert flow.sql(asked)[1:] == [("ann", 1, 1), ("bob", 1, 1)]


def test_a_context_that_the_user_attached_between_two_pieces_stays_theirs(flow: Flow) -> None:
    with wrapped(flow, "outside", attached_inside, aattached_inside):
        pieces = chain("a", "b").stream({"log": []})
        next(pieces)
        theirs = otel_context.set_value("mine", 1)
        token = otel_context.attach(theirs)
        list(pieces)
        assert otel_context.get_current() is theirs
        otel_context.detach(token)
        assert otel_context.get_value("mine") is None


@pytest.mark.parametrize("order", ["outside", "inside"])
def test_a_span_around_a_graphs_run_is_neither_its_turn_nor_a_step(flow: Flow, order: str) -> None:
    builder = StateGraph(State)
    builder.add_node("ask", lambda _: {"log": [interrupt("sure?")]})
    builder.add_edge(START, "ask")
    app: Any = builder.compile(name="helper", checkpointer=InMemorySaver())
    config: Any = {"configurable": {"thread_id": "t"}, "metadata": {"user_id": "ada"}}
    with wrapped(flow, order, told_around, atold_around):
        app.invoke({"log": []}, config)
        asyncio.run(app.ainvoke(Command(resume="yes"), config))
        with spanflow.engagement("mine"), spanflow.step("own"):
            chain("a").invoke({"log": []})
        left_out: Any = {"metadata": {"spanflow_enabled": False}}
        chain("b").invoke({"log": []}, left_out)
    asked = "SELECT name, user_id, turns, steps FROM engagements ORDER BY started_at"
    assert flow.sql(asked) == [("helper", "ada", 2, 2), ("mine", None, 1, 2)]
    assert [path for path, _ in flow.steps()] == ["ask", "ask", "own", "own/a"]
    assert flow.sql("SELECT step_name, is_open FROM waits") == [("ask", False)]
