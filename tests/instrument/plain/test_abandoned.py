"""Decorated generators and coroutines that are left before their end: they end all the same."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from typing import TYPE_CHECKING, Any

import pytest
from thrown import Mine, standing, statuses

import spanflow

if TYPE_CHECKING:
    from conftest import Flow


pytestmark = pytest.mark.usefixtures("nothing_leaks")


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
    begun = asyncio.Event()

    @spanflow.step
    @spanflow.tool
    async def waits() -> None:
        begun.set()
        await asyncio.sleep(60)

    async def turn() -> None:
        with spanflow.engagement("e"):
            await waits()

    task = asyncio.create_task(turn())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert statuses(flow) == ["cancelled"]
    assert flow.sql("SELECT status FROM tool_calls") == [("cancelled",)]
