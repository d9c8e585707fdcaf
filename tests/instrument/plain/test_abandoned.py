"""Decorated generators and coroutines that are left before their end: they end all the same."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry import context as otel_context
from opentelemetry import trace

import spanflow
from spanflow.capture import agents
from spanflow.capture import scope as scopes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Flow


@pytest.fixture(autouse=True)
def _nothing_leaks(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    before = otel_context.get_current()
    with caplog.at_level(logging.DEBUG, logger="opentelemetry"):
        yield
    assert "Failed to detach" not in caplog.text
    assert scopes.current.get() is None
    assert agents.current.get() is None
    assert otel_context.get_current() == before


def standing() -> Any:
    """What stands here: the scope, the agent and the span."""
    return scopes.current.get(), agents.around(), trace.get_current_span()


def statuses(flow: Flow) -> list[str]:
    return [status for _, status in flow.steps()]


class Mine(Exception):  # noqa: N818 - thrown in
    """What a test throws in."""


# -- however it is left ----------------------------------------------------------------------------


def endless() -> Any:
    with spanflow.tool_call("inside"):
        while True:
            yield 1


async def endless_later() -> Any:
    try:
        while True:
            yield 1
            await asyncio.sleep(0)
    finally:
        await asyncio.sleep(0)


@pytest.mark.parametrize("how", ["break", "del", "cycle", "close", "raise", "throw"])
def test_an_abandoned_generator_ends(flow: Flow, how: str) -> None:
    stream: Any = spanflow.step(spanflow.llm(model="m")(endless))
    with contextlib.suppress(Mine), spanflow.engagement("e"):
        before = standing()
        pieces = stream()
        next(pieces)
        if how == "break":
            for _ in pieces:
                break
            del pieces
        elif how == "del":
            del pieces
        elif how == "cycle":
            cycle: list[Any] = [pieces]
            cycle.append(cycle)
            del cycle, pieces
            gc.collect()
        elif how == "close":
            pieces.close()
        elif how == "raise":
            for _ in pieces:
                del pieces
                raise Mine
        else:
            with pytest.raises(Mine):
                pieces.throw(Mine())
        assert standing() == before
    expected = "failed" if how == "throw" else "cancelled"
    assert statuses(flow) == [expected]
    assert flow.one("SELECT status FROM llm_calls") == ("error" if how == "throw" else expected)
    assert flow.one("SELECT count(*) FROM turns WHERE ended_at IS NULL") == 0


@pytest.mark.parametrize("how", ["break", "aclose", "cancel", "del", "loop closed"])
def test_an_abandoned_async_generator_ends(flow: Flow, how: str) -> None:
    stream: Any = spanflow.step(spanflow.llm(model="m")(endless_later))
    held: list[Any] = []

    async def consume() -> None:
        with spanflow.engagement("e"):
            pieces = stream()
            await anext(pieces)
            if how == "loop closed":
                held.append(pieces)
                return
            if how == "aclose":
                await pieces.aclose()
            elif how == "cancel":
                asyncio.get_running_loop().call_later(0.01, asyncio.current_task().cancel)
                async for _ in pieces:
                    pass
            else:
                async for _ in pieces:
                    break
                del pieces
                gc.collect()
                for _ in range(5):
                    await asyncio.sleep(0)

    loop = asyncio.new_event_loop()
    with contextlib.suppress(asyncio.CancelledError):
        loop.run_until_complete(consume())
    loop.close()
    held.clear()
    gc.collect()
    assert statuses(flow) == ["cancelled"]
    assert flow.sql("SELECT status FROM llm_calls") == [("cancelled",)]


def test_a_stream_that_nobody_began_is_nothing(flow: Flow) -> None:
    stream = spanflow.step(endless)()
    stream.close()
    del stream
    assert flow.spans == []


async def test_a_task_that_is_cancelled_ends_its_coroutine(flow: Flow) -> None:
    @spanflow.step
    @spanflow.tool
    async def waits() -> None:
        await asyncio.sleep(60)

    async def turn() -> None:
        with spanflow.engagement("e"):
            await waits()

    task = asyncio.create_task(turn())
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert statuses(flow) == ["cancelled"]
    assert flow.sql("SELECT status FROM tool_calls") == [("cancelled",)]
