"""Every way a run can end closes its turn and its steps, and gives the user what they would get."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from typing import TYPE_CHECKING, Annotated, Any, TypedDict

import pytest
from graphs import State, chain
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.errors import GraphRecursionError, InvalidUpdateError
from langgraph.graph import END, START, StateGraph
from langgraph.types import interrupt

from spanflow.capture import scope as scopes
from spanflow.instrument.calls import places

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Flow

CONFIG: Any = {"configurable": {"thread_id": "t"}}


@pytest.fixture(autouse=True)
def _nothing_stays_open(flow: Flow) -> Iterator[None]:
    """However a run of this file ended: no turn or step is open, and nothing is remembered."""
    yield
    assert flow.one("SELECT count(*) FROM turns") >= 1
    assert flow.one("SELECT count(*) FROM turns WHERE outcome IS NULL") == 0
    assert flow.one("SELECT count(*) FROM steps WHERE ended_at IS NULL") == 0
    gc.collect()
    assert not dict(scopes.turns)
    assert not places


_begun: list[asyncio.Event] = []


@pytest.fixture(autouse=True)
async def begun() -> asyncio.Event:
    """What `slow` says when it begins."""
    _begun[:] = [asyncio.Event()]
    return _begun[0]


async def slow(state: State) -> State:
    _begun[0].set()
    await asyncio.sleep(60)
    return {"log": []}


def failing(message: str = "no") -> Any:
    def fail(*_: Any) -> Any:
        raise ValueError(message)

    return fail


def outcomes(flow: Flow) -> list[str]:
    return [outcome for (outcome,) in flow.sql("SELECT outcome FROM turns ORDER BY started_at")]


async def end(patience: asyncio.Timeout, begun: asyncio.Event) -> None:
    """Let a time be over once something has begun."""
    await begun.wait()
    patience.reschedule(0.0)


async def test_a_time_out_around_a_run(flow: Flow, begun: asyncio.Event) -> None:
    patience = asyncio.timeout(None)
    ended = asyncio.create_task(end(patience, begun))
    with pytest.raises(TimeoutError):
        async with patience:
            await chain("a", "slow", slow=slow).ainvoke({"log": []})
    await ended
    assert outcomes(flow) == ["cancelled"]
    assert flow.steps() == [("a", "completed"), ("slow", "cancelled")]


async def test_cancelling_a_stream_deep_inside(flow: Flow, begun: asyncio.Event) -> None:
    builder = StateGraph(State)
    builder.add_node("sub", chain("x", "slow", slow=slow))
    builder.add_edge(START, "sub")
    app = builder.compile()

    async def consume() -> None:
        async for _ in app.astream({"log": []}):
            pass

    running = asyncio.create_task(consume())
    await begun.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert outcomes(flow) == ["cancelled"]
    assert dict(flow.steps()) == {"sub": "cancelled", "sub/x": "completed", "sub/slow": "cancelled"}


async def test_a_client_that_disconnects(flow: Flow) -> None:
    """A server closes the stream of a client that went away."""
    stream = chain("a", "b").astream({"log": []})
    await anext(stream)
    await stream.aclose()
    assert outcomes(flow) == ["left"]


async def test_a_task_cancelled_between_two_pieces(flow: Flow, begun: asyncio.Event) -> None:
    async def consume() -> None:
        async for _ in chain("a", "b").astream({"log": []}):
            begun.set()
            await asyncio.sleep(60)

    running = asyncio.create_task(consume())
    await begun.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    while dict(scopes.turns):  # noqa: ASYNC110 - the loop closes it in a task of its own
        await asyncio.sleep(0.01)
    assert outcomes(flow) == ["left"]


def test_a_stream_nobody_closes(flow: Flow) -> None:
    stream = chain("a", "b").stream({"log": []})
    next(stream)
    del stream
    gc.collect()
    assert outcomes(flow) == ["left"]


def test_an_asynchronous_stream_nobody_closes(flow: Flow) -> None:
    """The loop closes what is left of it when it shuts down."""

    async def leave() -> None:
        leave.stream = chain("a", "b").astream({"log": []})  # type: ignore[attr-defined]
        await anext(leave.stream)  # type: ignore[attr-defined]

    asyncio.run(leave())
    assert outcomes(flow) == ["left"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_an_asynchronous_stream_that_outlives_its_loop(flow: Flow) -> None:
    """The loop is closed without asking what it still has: only the collector finds the stream."""
    kept: list[Any] = []

    async def leave() -> None:
        kept.append(chain("a", "b").astream({"log": []}))
        await anext(kept[0])

    loop = asyncio.new_event_loop()
    loop.run_until_complete(leave())
    loop.close()
    assert dict(scopes.turns)
    kept.clear()
    gc.collect()
    assert outcomes(flow) == ["left"]


def test_a_thread_of_its_own(flow: Flow) -> None:
    """A run in a worker's thread whose caller stops waiting goes on to its own end."""
    go = threading.Event()

    async def give_up() -> None:
        loop, begun = asyncio.get_running_loop(), asyncio.Event()

        def node(state: State) -> State:
            loop.call_soon_threadsafe(begun.set)
            go.wait(120)
            return {"log": ["done"]}

        patience = asyncio.timeout(None)
        ended = asyncio.create_task(end(patience, begun))
        with pytest.raises(TimeoutError):
            async with patience:
                await asyncio.to_thread(chain("a", a=node).invoke, {"log": []})
        await ended
        go.set()

    asyncio.run(give_up())
    assert outcomes(flow) == ["completed"]


def test_a_superstep_that_takes_too_long(flow: Flow) -> None:
    def node(state: State) -> State:
        time.sleep(1)
        return {"log": []}

    builder = StateGraph(State)
    for name in "ab":
        builder.add_node(name, node)
        builder.add_edge(START, name)
    app = builder.compile()
    app.step_timeout = 0.05
    with pytest.raises(TimeoutError):
        app.invoke({"log": []})
    assert outcomes(flow) == ["failed"]
    assert flow.sql("SELECT error_type FROM turns") == [("TimeoutError",)]


async def test_a_superstep_that_takes_too_long_asynchronously(flow: Flow) -> None:
    app = chain("slow", slow=slow)
    app.step_timeout = 0.05
    with pytest.raises(TimeoutError):
        await app.ainvoke({"log": []})
    assert outcomes(flow) == ["failed"]
    assert flow.steps() == [("slow", "cancelled")]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_leaving_the_program_between_two_pieces(flow: Flow, error: type[BaseException]) -> None:
    def consume() -> None:
        for _ in chain("a", "b").stream({"log": []}):
            raise error

    with pytest.raises(error):
        consume()
    gc.collect()
    assert outcomes(flow) == ["left"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_leaving_the_program_asynchronously(flow: Flow, error: type[BaseException]) -> None:
    async def node(state: State) -> State:
        raise error

    async def consume() -> None:
        async for _ in chain("a", a=node).astream({"log": []}):
            pass

    with pytest.raises(error):
        asyncio.run(consume())
    assert outcomes(flow) == ["cancelled"]
    assert flow.steps() == [("a", "cancelled")]


async def test_the_recursion_limit_asynchronously(flow: Flow) -> None:
    builder = StateGraph(State)
    builder.add_node("it", lambda state: {"log": ["x"]})
    builder.add_edge(START, "it")
    builder.add_conditional_edges("it", lambda state: "it", ["it", END])
    with pytest.raises(GraphRecursionError):
        await builder.compile().ainvoke({"log": []}, {"recursion_limit": 3})
    assert flow.sql("SELECT outcome, error_type FROM turns") == [("failed", "GraphRecursionError")]
    assert flow.steps() == [("it", "completed")] * 3


def test_a_drained_run_can_be_taken_up_again(flow: Flow) -> None:
    from langgraph.runtime import RunControl

    control = RunControl()

    def node(state: State) -> State:
        control.request_drain()
        return {"log": ["a"]}

    app = chain("a", "b", a=node).builder.compile(checkpointer=InMemorySaver())
    with pytest.raises(Exception, match="drained"):
        app.invoke({"log": []}, CONFIG, control=control)
    assert outcomes(flow) == ["paused"]
    assert flow.one("SELECT count(*) FROM records WHERE error_type IS NOT NULL") == 0
    assert app.invoke(None, CONFIG)["log"] == ["a", "b"]
    assert outcomes(flow) == ["paused", "completed"]


def test_a_branch_that_raises(flow: Flow) -> None:
    builder = StateGraph(State)
    builder.add_node("a", lambda state: {"log": ["a"]})
    builder.add_edge(START, "a")
    builder.add_conditional_edges("a", failing(), ["a", END])
    with pytest.raises(ValueError, match="no"):
        builder.compile().invoke({"log": []})
    assert flow.sql("SELECT outcome, error_type FROM turns") == [("failed", "ValueError")]
    assert flow.steps() == [("a", "failed")]
    assert flow.sql("SELECT dropped_at, errors FROM engagements") == [("a", 1)]


def test_a_reducer_that_raises(flow: Flow) -> None:
    class Reduced(TypedDict, total=False):
        log: Annotated[list[Any], lambda old, new: failing()() if new == ["bad"] else new]

    builder = StateGraph(Reduced)
    builder.add_node("a", lambda state: {"log": ["bad"]})
    builder.add_edge(START, "a")
    with pytest.raises(ValueError, match="no"):
        builder.compile().invoke({"log": []})
    assert flow.sql("SELECT outcome, error_type FROM turns") == [("failed", "ValueError")]
    assert flow.steps() == [("a", "completed")]
    assert flow.one("SELECT errors FROM engagements") == 1


def test_two_that_write_what_one_may(flow: Flow) -> None:
    class One(TypedDict, total=False):
        word: str

    builder = StateGraph(One)
    for name in "ab":
        builder.add_node(name, lambda state, name=name: {"word": name})
        builder.add_edge(START, name)
    with pytest.raises(InvalidUpdateError):
        builder.compile().invoke({"word": ""})
    assert flow.sql("SELECT outcome, error_type FROM turns") == [("failed", "InvalidUpdateError")]


def test_a_node_that_returns_what_is_no_state(flow: Flow) -> None:
    with pytest.raises(InvalidUpdateError):
        chain("a", a=lambda state: 7).invoke({"log": []})
    assert flow.steps() == [("a", "failed")]
    assert outcomes(flow) == ["failed"]


def test_a_state_that_does_not_validate(flow: Flow) -> None:
    from pydantic import BaseModel, ValidationError

    class Strict(BaseModel):
        n: int

    builder = StateGraph(Strict)
    builder.add_node("a", lambda state: {"n": "not a number"})
    builder.add_node("b", lambda state: {"n": 2})
    builder.add_edge(START, "a")
    builder.add_edge("a", "b")
    with pytest.raises(ValidationError):
        builder.compile().invoke({"n": 1})
    assert flow.sql("SELECT outcome, error_type FROM turns") == [("failed", "ValidationError")]


class Refusing(InMemorySaver):
    """A checkpointer whose storage is full after some checkpoints."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.left = after

    def put(self, *args: Any, **kwargs: Any) -> Any:
        self.left -= 1
        if self.left < 0:
            raise OSError(28, "no space left")
        return super().put(*args, **kwargs)


@pytest.mark.parametrize("after", [0, 1, 2])
@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
def test_a_checkpointer_that_fails(flow: Flow, after: int, durability: Any) -> None:
    app = chain("a", "b").builder.compile(
        checkpointer=Refusing(0 if durability == "exit" else after)
    )
    with pytest.raises(OSError, match="no space"):
        app.invoke({"log": []}, CONFIG, durability=durability)
    assert flow.sql("SELECT outcome, error_type FROM turns") == [("failed", "OSError")]


async def test_a_checkpointer_that_fails_asynchronously(flow: Flow) -> None:
    app = chain("a", "b").builder.compile(checkpointer=Refusing(1))
    with pytest.raises(OSError, match="no space"):
        await app.ainvoke({"log": []}, CONFIG)
    assert flow.sql("SELECT outcome, error_type FROM turns") == [("failed", "OSError")]


def test_a_question_beside_an_error(flow: Flow) -> None:
    """One branch asks, the other fails: the turn failed, and what was asked is still told."""
    asks = threading.Event()

    def ask(state: State) -> State:
        asks.set()
        return {"log": [interrupt("?")]}

    def late(state: State) -> State:
        assert asks.wait(120)
        time.sleep(0.2)
        raise ValueError

    builder = StateGraph(State)
    builder.add_node("ask", ask)
    builder.add_node("late", late)
    builder.add_edge(START, "ask")
    builder.add_edge(START, "late")
    with pytest.raises(ValueError):  # noqa: PT011 - it has no message
        builder.compile(checkpointer=InMemorySaver()).invoke({"log": []}, CONFIG)
    assert dict(flow.steps()) == {"ask": "waiting", "late": "failed"}
    assert outcomes(flow) == ["failed"]
    assert flow.one("SELECT count(*) FROM events WHERE kind = 'wait'") == 1


def test_a_stream_left_after_it_asked(flow: Flow) -> None:
    app = chain("a", "ask", ask=lambda state: {"log": [interrupt("?")]}).builder.compile(
        checkpointer=InMemorySaver()
    )
    for piece in app.stream({"log": []}, CONFIG):
        if "__interrupt__" in piece:
            break
    gc.collect()
    assert outcomes(flow) == ["paused"]
