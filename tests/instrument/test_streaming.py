"""Streams: the user sees what they would see without us, in every mode; nothing of ours leaks."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import re
from typing import TYPE_CHECKING, Any

import pytest
from graphs import State, acalling, calling, chain, llm
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.types import StreamWriter  # noqa: TC002 - LangGraph reads the node's annotations
from opentelemetry import context as otel_context
from opentelemetry import trace

import spanflow
from spanflow.capture import scope

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Flow

MODES = ["values", "updates", "messages", "custom", "tasks", "checkpoints", "debug"]
OURS = "spanflow_engagement"


def app(saver: Any = None) -> Any:
    model = llm(1, 2, "three words here")

    def speaks(state: State, writer: StreamWriter) -> State:
        writer({"half": "way"})
        model.invoke("hi")
        return {"log": ["speaks"]}

    builder = StateGraph(State)
    builder.add_node("speaks", speaks)
    builder.add_node("sub", chain("inner"))
    builder.add_edge(START, "speaks")
    builder.add_edge("speaks", "sub")
    return builder.compile(checkpointer=saver)


UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
VOLATILE = {
    "id",
    "timestamp",
    "run_id",
    "checkpoint_id",
    "parent_checkpoint_id",
    "ts",
    "created_at",
    "checkpoint_ns",
    "langgraph_checkpoint_ns",
    "checkpoint_map",
}


def normal(value: Any) -> Any:
    """A chunk without what differs from run to run, and without our one documented entry."""
    if isinstance(value, dict):
        return {
            k: normal(v)
            for k, v in value.items()
            if k not in VOLATILE and k != OURS and not str(k).startswith("__pregel")
        }
    if isinstance(value, list | tuple):
        return [normal(item) for item in value]
    if isinstance(value, str):
        return UUID.sub("<uuid>", value)
    if hasattr(value, "content"):
        return (type(value).__name__, value.content, getattr(value, "usage_metadata", None))
    return repr(value) if not isinstance(value, int | float | bool | None) else value


def keys_of_ours(value: Any, found: set[str] | None = None) -> set[str]:
    found = set() if found is None else found
    if isinstance(value, dict):
        for key, item in value.items():
            if "spanflow" in str(key):
                found.add(str(key))
            keys_of_ours(item, found)
    elif isinstance(value, list | tuple):
        for item in value:
            keys_of_ours(item, found)
    return found


@pytest.mark.parametrize(
    ("mode", "saved"),
    [
        (mode, saved)
        for mode in (*MODES, MODES[:4])
        for saved in (False, True)
        if saved or mode != "checkpoints"  # there are none to show without a checkpointer
    ],
)
@pytest.mark.parametrize("subgraphs", [False, True])
def test_every_stream_mode_is_unchanged(
    flow: Flow, mode: Any, subgraphs: bool, saved: bool
) -> None:
    def run() -> list[Any]:
        config = {"configurable": {"thread_id": "t"}} if saved else None
        graph = app(InMemorySaver() if saved else None)
        return list(graph.stream({"log": []}, config, stream_mode=mode, subgraphs=subgraphs))

    ours = run()
    spanflow.uninstrument()
    bare = run()
    assert [normal(chunk) for chunk in ours] == [normal(chunk) for chunk in bare]
    shown = keys_of_ours(ours)
    if saved and mode in ("checkpoints", "debug"):
        assert shown <= {OURS}
    else:
        assert shown == set()
    assert flow.steps() == [
        ("speaks", "completed"),
        ("sub", "completed"),
        ("sub/inner", "completed"),
    ]
    assert flow.one("SELECT total_tokens FROM engagements") == 3


@pytest.mark.parametrize("mode", MODES)
async def test_every_stream_mode_asynchronously(flow: Flow, mode: Any) -> None:
    async def run() -> list[Any]:
        graph = chain("a", "b", a=acalling(llm(1, 2, "three words here")))
        return [chunk async for chunk in graph.astream({"log": []}, stream_mode=mode)]

    ours = await run()
    spanflow.uninstrument()
    assert [normal(c) for c in ours] == [normal(c) for c in await run()]
    assert flow.steps() == [("a", "completed"), ("b", "completed")]
    assert flow.one("SELECT total_tokens FROM engagements") == 3


def test_streamed_tokens_are_timed_and_counted(flow: Flow) -> None:
    list(app().stream({"log": []}, stream_mode="messages"))
    [(tokens, first)] = flow.sql("SELECT total_tokens, time_to_first_token_ms FROM llm_calls")
    assert tokens == 3
    assert first is not None
    assert first > 0


def test_the_callers_context_is_never_changed(flow: Flow) -> None:
    before = (otel_context.get_current(), contextvars.copy_context())
    stream = app().stream({"log": []})
    for _ in stream:
        assert otel_context.get_current() == before[0]
        assert scope.current.get() is None
        assert not trace.get_current_span().get_span_context().is_valid
    app().invoke({"log": []})
    assert otel_context.get_current() == before[0]
    assert scope.current.get() is None


async def test_the_callers_async_context_is_never_changed(flow: Flow) -> None:
    graph = chain("a", a=acalling(llm(1, 1)))
    await graph.ainvoke({"log": []})
    async for _ in graph.astream({"log": []}):
        assert scope.current.get() is None
        assert not trace.get_current_span().get_span_context().is_valid
    assert scope.current.get() is None
    assert not trace.get_current_span().get_span_context().is_valid


def _current_name() -> Any:
    return getattr(trace.get_current_span(), "name", None)


async def test_a_model_called_in_a_node_leaves_no_span_behind(flow: Flow) -> None:
    seen: list[str] = []
    model = llm(1, 1, "two words")

    async def node(state: State) -> State:
        await model.ainvoke("x")
        seen.append(_current_name())
        seen.extend([_current_name() async for _ in model.astream("x")])
        seen.extend(_current_name() for _ in model.stream("x"))
        model.invoke("x")
        seen.append(_current_name())
        return {"log": []}

    await chain("a", a=node).ainvoke({"log": []})
    assert set(seen) == {"step a"}


@pytest.mark.parametrize("how", ["close", "break", "collect"])
def test_an_abandoned_stream_ends_its_turn(flow: Flow, how: str) -> None:
    stream = chain("a", "b").stream({"log": []})
    next(stream)
    if how == "close":
        stream.close()
    del stream
    gc.collect()
    assert flow.sql("SELECT outcome FROM turns") == [("left",)]
    assert flow.sql("SELECT status, dropped_at FROM engagements") == [("abandoned", "a")]


async def test_an_abandoned_async_stream_ends_its_turn(flow: Flow) -> None:
    stream = chain("a", "b").astream({"log": []})
    await anext(stream)
    await stream.aclose()
    assert flow.sql("SELECT outcome FROM turns") == [("left",)]
    assert scope.current.get() is None


def test_an_abandoned_thread_can_be_started_again(flow: Flow) -> None:
    graph = app(InMemorySaver())
    config: Any = {"configurable": {"thread_id": "t"}}
    for _ in graph.stream({"log": []}, config):
        break
    graph.invoke({"log": []}, config)
    assert flow.sql("SELECT outcome FROM turns ORDER BY started_at") == [("left",), ("completed",)]
    assert flow.one("SELECT count(*) FROM engagements") == 1


def test_a_stream_consumed_in_other_contexts(flow: Flow) -> None:
    """A server may pull each piece in a thread and context of its own."""
    stream = app().stream({"log": []})
    pieces = 0
    while contextvars.copy_context().run(next, stream, None) is not None:
        pieces += 1
    assert pieces == 2
    assert flow.steps()[0] == ("speaks", "completed")


async def test_a_task_that_outlives_its_turn(flow: Flow) -> None:
    late: list[asyncio.Task[Any]] = []
    model = llm(2, 2)
    inner = chain("later")

    over = asyncio.Event()

    async def background() -> None:
        await over.wait()
        await model.ainvoke("x")
        await inner.ainvoke({"log": []})

    async def node(state: State) -> State:
        late.append(asyncio.create_task(background()))
        return {"log": []}

    await chain("a", a=node).ainvoke({"log": []})
    over.set()
    await asyncio.gather(*late)
    assert flow.sql("SELECT step_name, total_tokens FROM llm_calls") == [("a", 4)]
    assert flow.one("SELECT count(*) FROM turns") == 2
    traces = flow.sql("SELECT DISTINCT trace_id FROM turns")
    assert len(traces) == 2


def test_threads_started_in_a_node(flow: Flow) -> None:
    import threading

    model = llm(1, 1)

    def node(state: State) -> State:
        ours = contextvars.copy_context()
        threads = [
            threading.Thread(target=contextvars.Context.run, args=(ours.copy(), model.invoke, "x"))
            for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return {"log": []}

    chain("a", a=node).invoke({"log": []})
    assert flow.sql("SELECT path, total_tokens FROM steps") == [("a", 6)]


def test_a_thread_given_only_the_otel_context(flow: Flow) -> None:
    import threading

    tracer = trace.get_tracer("theirs")

    def work(context: Any) -> None:
        with (
            tracer.start_as_current_span("outer", context=context),
            tracer.start_as_current_span("inner"),
        ):
            pass

    def node(state: State) -> State:
        thread = threading.Thread(target=work, args=(otel_context.get_current(),))
        thread.start()
        thread.join()
        return {"log": []}

    chain("a", a=node).invoke({"log": []})
    step = flow.named("step a")[0]
    for name in ("outer", "inner"):
        assert (
            flow.named(name)[0].attributes["spanflow.step.id"]
            == step.attributes["spanflow.step.id"]
        )  # type: ignore[index]


def test_sampling_thins_traces_but_never_the_ledger(flow_with: Callable[..., Flow]) -> None:
    """An unsampled parent makes every span of the turn unsampled; the ledger is complete."""
    flow = flow_with()
    parent = trace.SpanContext(1, 2, is_remote=True, trace_flags=trace.TraceFlags(0))
    token = otel_context.attach(trace.set_span_in_context(trace.NonRecordingSpan(parent)))
    try:
        chain("a", "b", a=calling(llm(1, 2))).invoke({"log": []})
    finally:
        otel_context.detach(token)
    assert flow.spans == []
    assert flow.steps() == [("a", "completed"), ("b", "completed")]
    assert flow.sql("SELECT total_tokens, status FROM engagements") == [(3, "completed")]
    assert flow.sql("SELECT DISTINCT trace_id FROM steps") == [(f"{1:032x}",)]
