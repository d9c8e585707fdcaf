"""Decorated generators: as the bare one, pieces counted, and an end in every case."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry import trace
from thrown import Mine, standing

import spanflow
from spanflow import semconv

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Flow


pytestmark = pytest.mark.usefixtures("nothing_leaks")


# -- as the bare one -------------------------------------------------------------------------------


PLANS = st.lists(
    st.sampled_from(["yield", "yield caught", "yield from", "raise", "return", "ignore"]),
    max_size=5,
)
MOVES = st.lists(
    st.sampled_from(["next", "send", "throw", "throw exit", "throw stop", "close"]), max_size=8
)


def bare(plan: list[str]) -> Any:
    """Run a plan, and say what came in."""
    heard = []
    for place, act in enumerate(plan):
        if act == "yield":
            heard.append((yield place))
        elif act == "yield caught":
            try:
                heard.append((yield place))
            except Mine as error:
                heard.append(str(error))
        elif act == "yield from":
            heard.append((yield from bare(["yield", "return"])))
        elif act == "raise":
            raise Mine(str(place))
        elif act == "return":
            return heard
        else:
            try:
                heard.append((yield place))
            except BaseException:  # noqa: BLE001 - the point
                yield "I stay"
    return heard


async def bare_later(plan: list[str]) -> Any:
    """Do the same, later."""
    inner = bare(plan)
    sent: Any = None
    raised: BaseException | None = None
    while True:
        await asyncio.sleep(0)
        try:
            piece = inner.send(sent) if raised is None else inner.throw(raised)
        except StopIteration:
            return
        sent, raised = None, None
        try:
            sent = yield piece
        except BaseException as error:  # noqa: BLE001 - the point
            raised = error


def told(error: BaseException) -> Any:
    return type(error).__name__, str(error), getattr(error, "value", None)


def played(stream: Any, moves: list[str]) -> list[Any]:
    seen: list[Any] = []
    for move in moves:
        try:
            if move == "next":
                seen.append(next(stream))
            elif move == "send":
                seen.append(stream.send("sent"))
            elif move == "throw":
                seen.append(stream.throw(Mine("thrown")))
            elif move == "throw exit":
                seen.append(stream.throw(GeneratorExit()))
            elif move == "throw stop":
                seen.append(stream.throw(StopIteration("s")))
            else:
                seen.append(stream.close())
        except BaseException as error:  # noqa: BLE001 - compared
            seen.append(told(error))
    for _ in range(20):  # one that stays is closed again and again
        with contextlib.suppress(BaseException):
            stream.close()
    return seen


async def played_later(stream: Any, moves: list[str]) -> list[Any]:
    seen: list[Any] = []
    for move in moves:
        try:
            if move == "next":
                seen.append(await anext(stream))
            elif move == "send":
                seen.append(await stream.asend("sent"))
            elif move == "throw":
                seen.append(await stream.athrow(Mine("thrown")))
            elif move == "throw exit":
                seen.append(await stream.athrow(GeneratorExit()))
            elif move == "throw stop":
                seen.append(await stream.athrow(StopAsyncIteration("s")))
            else:
                seen.append(await stream.aclose())
        except BaseException as error:  # noqa: BLE001 - compared
            seen.append(told(error))
    await stream.aclose()
    return seen


@pytest.mark.parametrize("captured", [True, False])
@pytest.mark.parametrize("decorate", [spanflow.step, spanflow.llm(model="m")], ids=["step", "llm"])
def test_it_does_what_the_bare_generator_does(
    flow_with: Callable[..., Flow], captured: bool, decorate: Any
) -> None:
    flow_with(ledger=None)
    if not captured:
        spanflow.uninstrument()
    made, made_later = decorate(bare), decorate(bare_later)

    @settings(max_examples=150, deadline=None)
    @given(PLANS, MOVES)
    def check(plan: list[str], moves: list[str]) -> None:
        assert played(made(plan), moves) == played(bare(plan), moves)
        # CPython itself stumbles over an async generator that yields while it is closed.
        obeying = [act for act in plan if act != "ignore"]
        with asyncio.Runner() as runner:
            there = runner.run(played_later(made_later(obeying), moves))
            assert there == runner.run(played_later(bare_later(obeying), moves))

    check()


# -- what stands when ------------------------------------------------------------------------------


def test_the_block_stands_around_each_piece_and_not_between(flow: Flow) -> None:
    seen: list[Any] = []

    @spanflow.agent("a")
    @spanflow.step
    def counting() -> Any:
        for each in range(3):
            seen.append(standing())
            yield each
        seen.append(standing())

    with spanflow.engagement("e"):
        outside = standing()
        for _ in counting():
            assert standing() == outside
            spanflow.log("between")
        assert standing() == outside
    assert len(set(seen)) == 1
    scope, agent, span = seen[0]
    assert (scope.step.path, agent.name, span.name) == ("counting", "a", "step counting")
    assert flow.sql("SELECT DISTINCT step_id FROM events WHERE name = 'between'") == [(None,)]


async def test_of_an_async_generator_too(flow: Flow) -> None:
    seen: list[Any] = []

    @spanflow.step
    async def counting() -> Any:
        for each in range(3):
            await asyncio.sleep(0)
            seen.append(standing())
            yield each

    async def consume(name: str) -> None:
        with spanflow.engagement(name):
            outside = standing()
            async for _ in counting():
                assert standing() == outside
                await asyncio.sleep(0)

    await asyncio.gather(*(consume(f"e{n}") for n in range(5)))
    assert len(set(seen)) == 5
    assert flow.sql("SELECT DISTINCT status, turns, steps FROM engagements") == [
        ("completed", 1, 1)
    ]


def test_blocks_left_open_across_pieces_are_back_with_the_next(flow: Flow) -> None:
    tracer = trace.get_tracer("mine")

    @spanflow.step
    def outer() -> Any:
        with spanflow.agent("worker"), spanflow.step("inner"), tracer.start_as_current_span("mine"):
            yield 1
            with spanflow.tool_call("look_up"):
                yield 2
        with spanflow.tool_call("after"):
            yield 3

    with spanflow.engagement("e"):
        before = standing()
        for piece in outer():
            assert standing() == before
            with spanflow.step(f"consumer {piece}"):
                pass
    assert flow.tree() == [
        [
            "invoke_workflow e",
            [
                [
                    "step outer",
                    [
                        [
                            "invoke_agent worker",
                            [["step inner", [["mine", ["execute_tool look_up"]]]]],
                        ],
                        "execute_tool after",
                    ],
                ],
                "step consumer 1",
                "step consumer 2",
                "step consumer 3",
            ],
        ]
    ]
    assert dict(flow.sql("SELECT name, agent_name FROM steps"))["inner"] == "worker"


def test_two_streams_that_take_turns_keep_apart(flow: Flow) -> None:
    @spanflow.step
    def left() -> Any:
        for each in range(3):
            spanflow.tool_call("of left", result=each)
            yield each

    @spanflow.step
    def right() -> Any:
        for each in range(3):
            spanflow.tool_call("of right", result=each)
            yield each

    with spanflow.engagement("e"):
        assert list(zip(left(), right(), strict=True)) == [(0, 0), (1, 1), (2, 2)]
    assert flow.sql(
        "SELECT step_name, name, count(*) FROM tool_calls GROUP BY ALL ORDER BY ALL"
    ) == [("left", "of left", 3), ("right", "of right", 3)]


# -- what is told ----------------------------------------------------------------------------------


@pytest.mark.parametrize("pieces", [0, 3])
async def test_pieces_are_counted_and_the_first_is_timed(flow: Flow, pieces: int) -> None:
    def generator() -> Any:
        yield from range(pieces)

    async def later() -> Any:
        for each in range(pieces):
            yield each

    with spanflow.engagement("e"):
        for decorate in (
            spanflow.agent,
            spanflow.step,
            spanflow.tool,
            spanflow.llm(model="m"),
            spanflow.retrieval,
            spanflow.trace,
        ):
            assert len(list(decorate(generator)())) == pieces
            assert len([piece async for piece in decorate(later)()]) == pieces
    streams = [span for span in flow.spans if semconv.STREAM_CHUNKS in (span.attributes or {})]
    assert len(streams) == 12
    for span in streams:
        assert span.attributes[semconv.STREAM_CHUNKS] == pieces
        assert (semconv.STREAM_FIRST_CHUNK_MS in span.attributes) == (pieces > 0)
        assert span.attributes.get(semconv.STREAM_FIRST_CHUNK_MS, 0) >= 0
    rows = flow.sql(
        f"""SELECT attributes->>'$."{semconv.STREAM_CHUNKS}"',
                   attributes->>'$."{semconv.STREAM_FIRST_CHUNK_MS}"' IS NOT NULL
            FROM records WHERE kind NOT IN ('turn') AND phase = 'end'"""
    )
    assert rows == [(str(pieces), pieces > 0)] * 12
    timed = flow.sql("SELECT time_to_first_token_ms IS NOT NULL FROM llm_calls")
    assert timed == [(pieces > 0,)] * 2
