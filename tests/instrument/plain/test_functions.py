"""Decorated functions of every kind: what they become, and that they stay what they were."""

from __future__ import annotations

import asyncio
import functools
import inspect
import json
import os
import pickle
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool as langchain_tool

import spanflow

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Flow

CONTENT = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
SIGNALS = ("TRACES", "METRICS", "LOGS")
EVERY: dict[str, Callable[[Any], Any]] = {
    "agent": spanflow.agent,
    "step": spanflow.step,
    "tool": spanflow.tool,
    "llm": spanflow.llm(model="m"),
    "retrieval": spanflow.retrieval,
    "trace": spanflow.trace,
    "named": spanflow.tool("of another name"),
}
every = pytest.mark.parametrize("decorate", EVERY.values(), ids=EVERY)


def plain(first: int, *rest: int, by: str = "one") -> tuple[Any, ...]:
    """Say what came."""
    return (first, rest, by)


async def coroutine(first: int, *rest: int, by: str = "one") -> tuple[Any, ...]:
    """Say what came, later."""
    await asyncio.sleep(0)
    return (first, rest, by)


def generator(first: int, *rest: int, by: str = "one") -> Any:
    """Say what came, piece by piece."""
    yield first
    yield from rest
    return by


async def async_generator(first: int, *rest: int, by: str = "one") -> Any:
    """Say what came, piece by piece, later."""
    yield first
    for each in rest:
        await asyncio.sleep(0)
        yield each


@spanflow.tool
def at_the_top(value: int) -> int:
    return value * 2


class CallableObject:
    """Can be called."""

    def __call__(self, value: int) -> int:
        return value + 1


class CallableLater:
    """Can be called, and awaited."""

    async def __call__(self, value: int) -> int:
        return value + 1


KINDS = ("iscoroutinefunction", "isgeneratorfunction", "isasyncgenfunction", "isfunction")


async def said(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call a function of any kind, and return all that it says."""
    if inspect.isasyncgenfunction(function):
        return [piece async for piece in function(*args, **kwargs)]
    if inspect.isgeneratorfunction(function):
        return list(function(*args, **kwargs))
    result = function(*args, **kwargs)
    return await result if inspect.isawaitable(result) else result


# -- what they stay --------------------------------------------------------------------------------


@every
@pytest.mark.parametrize("function", [plain, coroutine, generator, async_generator])
@pytest.mark.parametrize("captured", [True, False])
async def test_a_function_stays_what_it_was(
    flow: Flow, decorate: Any, function: Any, captured: bool
) -> None:
    if not captured:
        spanflow.uninstrument()
    made = decorate(function)
    for kind in KINDS:
        assert getattr(inspect, kind)(made) == getattr(inspect, kind)(function)
    assert inspect.signature(made) == inspect.signature(function)
    assert (made.__doc__, made.__name__, made.__wrapped__) == (
        function.__doc__,
        function.__name__,
        function,
    )
    assert made.__qualname__ == function.__qualname__
    assert made.__module__ == __name__
    assert await said(made, 1, 2, 3, by="x") == await said(function, 1, 2, 3, by="x")
    with pytest.raises(TypeError, match="first"):
        await said(made)


@every
async def test_what_is_raised_is_the_very_same(flow: Flow, decorate: Any) -> None:
    error = LookupError("nothing there")

    def fails() -> None:
        raise error

    async def fails_later() -> None:
        raise error

    for function in (fails, fails_later):
        with pytest.raises(LookupError) as raised:
            await said(decorate(function))
        assert raised.value is error
        assert raised.value.__context__ is None


@every
async def test_methods_of_any_kind(flow: Flow, decorate: Any) -> None:
    class Desk:
        def __init__(self, name: str) -> None:
            self.name = name

        @decorate
        def method(self, value: int) -> Any:
            return (self.name, value)

        @decorate
        async def later(self, value: int) -> Any:
            return (self.name, value)

        @classmethod
        @decorate
        def below(cls, value: int) -> Any:
            return (cls, value)

        @decorate
        @classmethod
        def above(cls, value: int) -> Any:
            return (cls, value)

        @staticmethod
        @decorate
        def static_below(value: int) -> Any:
            return value

        @decorate
        @staticmethod
        def static_above(value: int) -> Any:
            return value

        @decorate
        @classmethod
        def pieces(cls, value: int) -> Any:
            yield (cls, value)

        @property
        @decorate
        def title(self) -> str:
            return self.name.title()

    class Front(Desk):
        pass

    desk = Front("front")
    assert desk.method(1) == ("front", 1)
    assert Desk.method(desk, 2) == ("front", 2)
    assert await desk.later(3) == ("front", 3)
    assert inspect.iscoroutinefunction(desk.later)
    assert Front.below(4) == desk.below(4) == (Front, 4)
    assert Front.above(5) == desk.above(5) == (Front, 5)
    assert Desk.static_below(6) == desk.static_above(6) == 6
    assert list(Front.pieces(7)) == [(Front, 7)]
    assert inspect.isgeneratorfunction(Desk.pieces)
    assert desk.title == "Front"
    assert isinstance(vars(Desk)["above"], classmethod)
    assert isinstance(vars(Desk)["static_above"], staticmethod)


@every
async def test_whatever_else_can_be_called(flow: Flow, decorate: Any) -> None:
    half = decorate(functools.partial(plain, 1, by="half"))
    assert half(2) == (1, (2,), "half")
    half_later = decorate(functools.partial(coroutine, 1))
    assert inspect.iscoroutinefunction(half_later)
    assert await half_later(2) == (1, (2,), "one")
    assert decorate(CallableObject())(1) == 2
    assert await decorate(CallableLater())(1) == 2
    assert decorate(lambda x: x + 1)(1) == 2
    assert await decorate(lambda x: coroutine(x, 2))(1) == (1, (2,), "one")
    assert decorate(len)("abc") == 3
    assert decorate({}.get)("none") is None
    assert decorate(decorate(plain))(1) == (1, (), "one")


async def test_they_are_called_what_they_wrap(flow: Flow) -> None:
    with spanflow.engagement("e"):
        spanflow.step(functools.partial(functools.partial(plain, 1), 2))()
        spanflow.tool(CallableObject())(1)
        spanflow.tool("search")(plain)(1)
        spanflow.trace("parse")(plain)(1)
        await spanflow.retrieval(lambda q: coroutine(q, 2))(1)
        spanflow.agent("planner", role="planner")(plain)(1)
    assert flow.tree() == [
        [
            "invoke_workflow e",
            [
                "step plain",
                "execute_tool CallableObject",
                "execute_tool search",
                "parse",
                "retrieval <lambda>",
                "invoke_agent planner",
            ],
        ]
    ]


@every
def test_a_class_is_refused(decorate: Any) -> None:
    with pytest.raises(TypeError, match="stands on functions and methods, not on class"):
        decorate(CallableObject)


class Shelf:
    """Things that are no functions though a decorator could be put above them."""

    @functools.cached_property
    def cached(self) -> int:
        """Counted once."""
        return 1

    @functools.singledispatchmethod
    def by_type(self, value: Any) -> Any:
        """Told apart by type."""
        return value

    half = functools.partialmethod(by_type, 1)


@langchain_tool
def of_langchain(area: str) -> str:
    """A tool that is an object."""
    return area


NO_FUNCTIONS = [property(plain), *(vars(Shelf)[k] for k in ("cached", "by_type", "half"))]


@every
@pytest.mark.parametrize("what", [*NO_FUNCTIONS, of_langchain, RunnableLambda(plain)])
def test_what_is_no_function_is_refused(decorate: Any, what: Any) -> None:
    with pytest.raises(TypeError, match="stands on functions and methods"):
        decorate(what)


@pytest.mark.parametrize("what", [5, None])
@pytest.mark.parametrize("kind", [kind for kind in EVERY if kind not in {"agent", "step"}])
def test_what_is_no_name_is_refused(kind: str, what: Any) -> None:
    with pytest.raises(TypeError, match="stands on functions and methods"):
        EVERY[kind](what)


@pytest.mark.parametrize("what", [5, None])
@pytest.mark.parametrize("kind", [spanflow.agent, spanflow.step])
def test_what_is_no_function_is_the_name_of_a_block(flow: Flow, kind: Any, what: Any) -> None:
    with spanflow.engagement("e"), kind(what):
        pass
    [[_, [name]]] = flow.tree()
    assert name.split(" ", 1)[1] == str(what)


POOL = """
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context
    import sys
    import spanflow

    @spanflow.tool
    def double(value): return value * 2

    if __name__ == "__main__":
        spanflow.configure(ledger="traces.duckdb", ingest="off")
        with spanflow.engagement("e"), spanflow.step("s"):
            with ProcessPoolExecutor(2, mp_context=get_context(sys.argv[1])) as pool:
                assert list(pool.map(double, range(5))) == [0, 2, 4, 6, 8]
    """


@pytest.mark.parametrize("start", ["spawn", "fork"])
def test_a_decorated_function_goes_to_another_process(tmp_path: Path, start: str) -> None:
    assert pickle.loads(pickle.dumps(at_the_top)) is at_the_top  # noqa: S301 - our own
    program = tmp_path / "program.py"
    program.write_text(textwrap.dedent(POOL))
    done = subprocess.run(
        [sys.executable, program, start],
        cwd=tmp_path,
        env={**os.environ, **{f"OTEL_{what}_EXPORTER": "none" for what in SIGNALS}},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


# -- nothing configured ----------------------------------------------------------------------------

UNCONFIGURED = """
    import asyncio, json, sys
    import spanflow

    class Anything:
        @spanflow.tool
        @classmethod
        def made(cls): return cls

    @spanflow.agent
    @spanflow.step
    @spanflow.tool
    @spanflow.llm(model="m")
    @spanflow.retrieval
    @spanflow.trace
    def plain(x): return x
    @spanflow.step
    async def later(x): return x
    @spanflow.llm(model="m")
    def pieces(x):
        got = yield x
        return got
    @spanflow.trace
    async def pieces_later(x): yield x

    async def main():
        assert await later(1) == 1
        assert [p async for p in pieces_later(1)] == [1]
    asyncio.run(main())
    assert plain(1) == 1 and Anything.made() is Anything
    stream = pieces(2)
    assert next(stream) == 2
    try:
        stream.send("back")
    except StopIteration as ended:
        assert ended.value == "back"
    print(json.dumps(sorted(sys.modules)))
    """


def test_with_nothing_configured_nothing_of_capture_is_loaded(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(UNCONFIGURED)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )
    loaded = set(json.loads(done.stdout))
    ours = {name for name in loaded if name.startswith("spanflow.")}
    assert not [name for name in ours if name.startswith(("spanflow.capture", "spanflow.ledger"))]
    heavy = {"opentelemetry.sdk", "opentelemetry.trace", "pydantic", "duckdb", "orjson", "wrapt"}
    assert not loaded & heavy
    assert not list(tmp_path.iterdir())
