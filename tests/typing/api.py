# pyright: strict, reportUnnecessaryTypeIgnoreComment=true
"""The public API as a typed program: never run, read by a type checker.

A decorator gives back the very type that it was given, whatever kind of function that is.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Generator, Iterator
from functools import partial
from typing import Any, assert_type

import spanflow
from spanflow.instrument.plain.agents import AgentBlock
from spanflow.instrument.plain.call_blocks import LlmCallBlock, ToolCallBlock
from spanflow.instrument.plain.engagements import EngagementBlock
from spanflow.instrument.plain.steps import StepBlock

# -- blocks ----------------------------------------------------------------------------------------


def blocks() -> None:
    with spanflow.engagement(
        "support", id="e-1", user_id="ada", session_id="s", goals=["solved"], metadata={"n": 1}
    ) as engagement:
        assert_type(engagement, EngagementBlock)
        assert_type(engagement.engagement_id, str | None)
        assert_type(engagement.turn_id, str | None)
        with spanflow.step("qualify", tools=("look_up",), is_global=True) as step:
            assert_type(step, StepBlock)
            assert_type(step.step_id, str | None)
            with spanflow.agent("planner", role="planner") as agent:
                assert_type(agent, AgentBlock)
                assert_type(agent.parent, str | None)
            with spanflow.llm_call("m", provider="p", step_id=step.step_id) as call:
                assert_type(call, LlmCallBlock)
                assert_type(call.set_usage(input_tokens=1, output_tokens=2), None)
            with spanflow.tool_call("t", arguments={"a": 1}, call_id="c") as tool:
                assert_type(tool, ToolCallBlock)
                assert_type(tool.set_result({"hits": 3}), None)
    with spanflow.resume("e-1", resolution="approved") as resumed:
        assert_type(resumed, EngagementBlock)


async def async_blocks() -> None:
    async with spanflow.engagement("support") as engagement, spanflow.step("s") as step:
        assert_type(engagement, EngagementBlock)
        assert_type(step, StepBlock)
        async with spanflow.agent("a") as agent, spanflow.llm_call("m") as call:
            assert_type(agent, AgentBlock)
            assert_type(call, LlmCallBlock)


def marks() -> None:
    assert_type(spanflow.log("offer shown", price_usd=95, engagement_id="e"), None)
    assert_type(spanflow.error(TimeoutError("late"), step_id="s"), None)
    assert_type(spanflow.goal("submitted"), None)
    assert_type(spanflow.gave_up("too expensive"), None)
    assert_type(spanflow.pause("approval", {"price_usd": 95}), None)
    assert_type(spanflow.extraction("BudgetInfo", {"budget": 1}, valid=False), None)
    assert_type(spanflow.record_llm_usage("m", input_tokens=1, caller="cron"), None)
    assert_type(spanflow.llm_call("m", input_tokens=1, output_tokens=2), LlmCallBlock)
    assert_type(spanflow.tool_call("t", result=3), ToolCallBlock)


def process() -> None:
    assert_type(spanflow.configure(goals=["submitted"], enabled=False), None)
    assert_type(spanflow.flush(timeout=1.0), bool)
    assert_type(spanflow.carry({"accept": "*/*"}), dict[str, str])
    assert_type(spanflow.shutdown(), None)
    assert_type(spanflow.uninstrument(), None)
    with spanflow.connect("traces.duckdb") as ledger:
        assert_type(ledger, spanflow.Ledger)
    try:
        spanflow.connect()
    except spanflow.LedgerNotFoundError as error:
        assert_type(error, spanflow.LedgerNotFoundError)
    except spanflow.LedgerError as error:
        base: spanflow.SpanflowError = error
        assert_type(base, spanflow.LedgerError)
    except (spanflow.ConfigurationError, ValueError):
        pass
    except spanflow.PauseInGraphError as error:
        runtime_error: RuntimeError = error
        assert_type(runtime_error, spanflow.PauseInGraphError)


# -- decorators: bare ------------------------------------------------------------------------------


@spanflow.agent
def function(question: str, *, limit: int = 3) -> list[str]:
    return [question] * limit


@spanflow.step
async def coroutine(question: str) -> int:
    return len(question)


@spanflow.tool
def generator(count: int) -> Generator[int, str, bool]:
    got = yield count
    return bool(got)


@spanflow.retrieval
async def async_generator(count: int) -> AsyncGenerator[int, None]:
    yield count


@spanflow.trace
def iterates(count: int) -> Iterator[int]:
    yield count


def bare() -> None:
    assert_type(function("q", limit=1), list[str])
    assert_type(generator(1), Generator[int, str, bool])
    assert_type(async_generator(1), AsyncGenerator[int, None])
    assert_type(iterates(1), Iterator[int])
    typed: Callable[[str], Coroutine[Any, Any, int]] = coroutine
    assert typed


# -- decorators: named -----------------------------------------------------------------------------


@spanflow.agent("planner", role="planner")
def named_function(question: str) -> str:
    return question


@spanflow.step("qualify", tools=["look_up"], is_global=True)
async def named_coroutine(question: str) -> str:
    return question


@spanflow.tool("look up")
def named_tool(area: str) -> dict[str, int]:
    return {area: 1}


@spanflow.llm(model="gpt-5-mini", provider="openai")
async def answer(question: str) -> AsyncIterator[str]:
    yield question


@spanflow.retrieval("handbook")
def named_retrieval(query: str) -> list[str]:
    return [query]


@spanflow.trace("parse")
def named_trace(text: str) -> tuple[str, ...]:
    return tuple(text)


async def named() -> None:
    assert_type(named_function("q"), str)
    assert_type(await named_coroutine("q"), str)
    assert_type(named_tool("a"), dict[str, int])
    assert_type(answer("q"), AsyncIterator[str])
    assert_type(named_retrieval("q"), list[str])
    assert_type(named_trace("t"), tuple[str, ...])
    assert_type(await spanflow.llm(model="m")(coroutine)("q"), int)
    assert_type(spanflow.tool(partial(named_tool, "a"))(), dict[str, int])


# -- decorators: methods ---------------------------------------------------------------------------


class Desk:
    @spanflow.tool
    def method(self, area: str) -> int:
        return len(area)

    @spanflow.tool("later")
    async def later(self, area: str) -> int:
        return len(area)

    @classmethod
    @spanflow.step
    def below(cls, area: str) -> Desk:
        return cls()

    @spanflow.step
    @classmethod
    def above(cls, area: str) -> Desk:
        return cls()

    @spanflow.llm(model="m")
    @staticmethod
    def static(area: str) -> str:
        return area

    @property
    @spanflow.trace
    def title(self) -> str:
        return "Desk"


async def methods() -> None:
    desk = Desk()
    assert_type(desk.method("a"), int)
    assert_type(Desk.method(desk, "a"), int)
    assert_type(await desk.later("a"), int)
    assert_type(Desk.below("a"), Desk)
    assert_type(desk.above("a"), Desk)
    assert_type(Desk.static("a"), str)
    assert_type(desk.title, str)
