"""A decorated call to a model counts once, whoever else saw what was called inside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from completions import ASKED, answer, ask, litellm, reset
from graphs import llm as model_of
from opentelemetry import trace

import spanflow

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Flow

pytestmark = pytest.mark.filterwarnings("ignore")  # LiteLLM's own


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    yield
    reset()


def totals(flow: Flow) -> Any:
    return flow.sql(
        "SELECT input_tokens, output_tokens, llm_calls, calls_without_usage FROM engagements"
    )[0]


def provider_span(given: int, produced: int, response_id: str | None = None) -> dict[str, Any]:
    """What an instrumentor of a provider's SDK would report, and the SDK's answer."""
    with trace.get_tracer("openai.instrumentation").start_as_current_span(
        "chat gpt-5",
        attributes={
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "openai",
            "gen_ai.request.model": "gpt-5",
            "gen_ai.usage.input_tokens": given,
            "gen_ai.usage.output_tokens": produced,
        },
    ):
        pass
    return {
        "object": "chat.completion",
        "id": response_id,
        "usage": {"prompt_tokens": given, "completion_tokens": produced},
    }


@spanflow.llm(model="gpt-4o-mini")
def by_litellm(times: int = 1) -> Any:
    return [ask() for _ in range(times)][-1]


@spanflow.llm(model="gpt-4o-mini")
async def by_litellm_later(times: int = 1) -> Any:
    for _ in range(times):
        last = await litellm.acompletion(
            model="gpt-4o-mini", messages=ASKED, mock_response=answer()
        )
    return last


@spanflow.llm(model="gpt-4o-mini")
def streamed_by_litellm() -> Any:
    yield from litellm.completion(
        model="gpt-4o-mini",
        messages=ASKED,
        mock_response=answer(),
        stream=True,
        stream_options={"include_usage": True},
    )


@spanflow.llm(model="fake-1")
def by_langchain(times: int = 1) -> Any:
    model = model_of(10, 20)
    return [model.invoke("hello") for _ in range(times)][-1]


@spanflow.llm(model="fake-1")
async def by_langchain_later(times: int = 1) -> Any:
    model = model_of(10, 20)
    return [await model.ainvoke("hello") for _ in range(times)][-1]


@spanflow.llm(model="fake-1")
def streamed_by_langchain() -> Any:
    yield from model_of(10, 20).stream("hello")


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("function", [by_litellm, by_langchain])
def test_calls_inside_count_once(flow: Flow, sampled: bool, function: Any, times: int) -> None:
    with spanflow.engagement("e"), spanflow.step("s"):
        function(times)
    assert totals(flow)[:2] == (10 * times, 20 * times)
    assert totals(flow)[3] == 0
    counted = flow.sql(
        """SELECT sum(input_tokens), sum(output_tokens) FROM llm_calls WHERE counted"""
    )
    assert counted == [(10 * times, 20 * times)]
    live = flow.sql(
        """SELECT attributes->>'$."spanflow.usage.total_tokens"' FROM records
           WHERE kind = 'step' AND phase = 'end'"""
    )
    assert live == [(str(30 * times),)]


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("function", [by_litellm_later, by_langchain_later])
async def test_later_too(flow: Flow, sampled: bool, function: Any, times: int) -> None:
    with spanflow.engagement("e"), spanflow.step("s"):
        await function(times)
    assert totals(flow)[:2] == (10 * times, 20 * times)


@pytest.mark.parametrize("function", [streamed_by_litellm, streamed_by_langchain])
def test_streamed_too(flow: Flow, sampled: bool, function: Any) -> None:
    with spanflow.engagement("e"), spanflow.step("s"):
        assert len(list(function())) > 1
    assert totals(flow)[:2] == (10, 20)
    assert totals(flow)[3] == 0
    assert (
        flow.one(
            "SELECT count(*) FROM llm_calls WHERE counted AND time_to_first_token_ms IS NOT NULL"
        )
        == 1
    )


def test_outside_every_engagement_too(flow: Flow, sampled: bool) -> None:
    by_litellm()
    assert flow.sql("SELECT input_tokens, counted, engagement_id FROM llm_calls") == [
        (10, True, None)
    ]
    by_langchain()
    assert flow.one("SELECT sum(input_tokens) FROM llm_calls WHERE counted") == 20


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("between", [True, False])
def test_a_providers_own_span_is_the_same_call(flow: Flow, times: int, between: bool) -> None:
    @spanflow.llm(model="gpt-5", provider="openai")
    def function() -> Any:
        if not between:
            return [provider_span(10, 20) for _ in range(times)][-1]
        with trace.get_tracer("http").start_as_current_span("POST"):
            return [provider_span(10, 20) for _ in range(times)][-1]

    with spanflow.engagement("e"), spanflow.step("s"):
        function()
    assert totals(flow) == (10 * times, 20 * times, times, 0)


def test_a_provider_whose_answer_nobody_returns_is_counted(flow: Flow) -> None:
    @spanflow.llm(model="gpt-5")
    def function() -> str:
        provider_span(10, 20)
        return "Yes."

    with spanflow.engagement("e"), spanflow.step("s"):
        function()
        function()
    assert totals(flow) == (20, 40, 2, 0)


def test_one_decorated_call_inside_another_counts_once(flow: Flow, sampled: bool) -> None:
    @spanflow.llm(model="gpt-4o-mini")
    @spanflow.llm(model="gpt-4o-mini")
    def function() -> Any:
        return by_litellm()

    with spanflow.engagement("e"), spanflow.step("s"):
        spanflow.tool(function)()
    assert totals(flow)[:2] == (10, 20)
