"""LiteLLM's streams, retries, fallbacks, routers and cached answers; calls inside others' calls."""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
import time
import types
from typing import TYPE_CHECKING, Any

import pytest
from completions import ASKED, answer, ask, litellm, reset
from graphs import State, chain
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatResult

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Flow

pytestmark = pytest.mark.filterwarnings("ignore")  # LiteLLM's own
COUNTING = {"include_usage": True}
EVENTS = """SELECT list(e.kind ORDER BY e.at_ns), list(e.payload::VARCHAR ORDER BY e.at_ns)
    FROM (SELECT unnest(event_list(events)) AS e FROM spans WHERE kind IN ('llm', 'embeddings'))"""


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    logging.getLogger("LiteLLM").setLevel(logging.CRITICAL)
    yield
    reset()


def router(num_retries: int = 1, **more: Any) -> Any:
    """Return a router whose group `a` always fails and falls back to `b`."""
    broken = {"model": "openai/gpt-4o", "api_key": "x", "mock_response": "litellm.RateLimitError"}
    sound = {"model": "anthropic/claude-sonnet-4-5", "api_key": "x", "mock_response": "from b"}
    return litellm.Router(
        model_list=[
            {"model_name": "a", "litellm_params": broken},
            {"model_name": "b", "litellm_params": sound},
        ],
        num_retries=num_retries,
        retry_after=0,
        cooldown_time=0,
        **{"fallbacks": [{"a": ["b"]}], **more},
    )


def test_a_stream_tells_its_usage_in_the_last_piece(flow: Flow) -> None:
    def node(state: State) -> State:
        pieces = ask(mock_response="hello there", stream=True, stream_options=COUNTING)
        return {"log": [p.choices[0].delta.content for p in pieces if p.choices]}

    result = chain("a", a=node).invoke({"log": []})
    assert "".join(filter(None, result["log"])) == "hello there"
    [(step, tokens, cost, first, status)] = flow.sql(
        """SELECT step_name, total_tokens, cost_usd, time_to_first_token_ms, status
           FROM llm_calls"""
    )
    assert (step, tokens, status) == ("a", 13, "ok")
    assert cost > 0
    assert first > 0
    assert flow.sql("SELECT total_tokens FROM engagements") == [(13,)]


async def test_an_asynchronous_stream(flow: Flow) -> None:
    stream = await litellm.acompletion(
        model="gpt-4o-mini",
        messages=ASKED,
        mock_response="hello",
        stream=True,
        stream_options=COUNTING,
    )
    assert [piece async for piece in stream]
    assert flow.sql("SELECT total_tokens, status FROM llm_calls") == [(12, "ok")]


def test_what_nobody_counted_is_not_estimated(flow: Flow) -> None:
    assert list(ask(mock_response="hello there", stream=True))
    assert flow.sql("SELECT total_tokens, cost_usd, status FROM llm_calls") == [(None, None, "ok")]


def test_a_stream_that_is_left_ends_its_call(flow: Flow) -> None:
    stream = ask(mock_response="hello there you", stream=True)
    next(stream)
    assert flow.named("chat gpt-4o-mini") == []
    del stream
    gc.collect()
    assert flow.sql("SELECT status, total_tokens FROM llm_calls") == [("cancelled", None)]
    assert len(flow.named("chat gpt-4o-mini")) == 1


async def test_a_stream_that_is_closed_ends_its_call_once(flow: Flow) -> None:
    stream = await litellm.acompletion(
        model="gpt-4o-mini", messages=ASKED, mock_response="hello there you", stream=True
    )
    await anext(stream)
    await stream.aclose()
    del stream
    gc.collect()
    assert flow.sql("SELECT status FROM llm_calls") == [("cancelled",)]


def test_between_two_pieces_the_context_is_the_callers(flow: Flow) -> None:
    from opentelemetry import trace

    stream = ask(mock_response="hello there you", stream=True)
    for _ in stream:
        assert not trace.get_current_span().get_span_context().is_valid
        ask(mock_response=answer(1, 1))
    assert flow.sql("SELECT DISTINCT counted, parent_span_id FROM llm_calls") == [(True, None)]


def test_a_stream_is_otherwise_litellms_own(flow: Flow) -> None:
    stream = ask(mock_response="hello", stream=True)
    assert isinstance(stream, litellm.CustomStreamWrapper)
    assert stream.model == "gpt-4o-mini"
    whole = litellm.stream_chunk_builder(list(stream), messages=ASKED)
    assert whole.choices[0].message.content == "hello"


def test_retries_are_events_of_one_call(flow: Flow) -> None:
    with pytest.raises(litellm.InternalServerError):
        ask(mock_response="litellm.InternalServerError", num_retries=2)
    assert flow.sql("SELECT status, error_type FROM llm_calls") == [
        ("error", "InternalServerError")
    ]
    [(kinds, payloads)] = flow.sql(EVENTS)
    assert kinds == ["retry", "retry"]
    assert '"attempt":3' in payloads[1].replace(" ", "")
    assert "InternalServerError" in payloads[0]
    [span] = flow.named("chat gpt-4o-mini")
    assert [e.name for e in span.events if e.name != "exception"] == ["retry", "retry"]


async def test_retries_asynchronously(flow: Flow) -> None:
    with pytest.raises(litellm.InternalServerError):
        await litellm.acompletion(
            model="gpt-4o-mini",
            messages=ASKED,
            mock_response="litellm.InternalServerError",
            num_retries=2,
        )
    assert flow.one("SELECT count(*) FROM llm_calls") == 1
    assert flow.sql(EVENTS)[0][0] == ["retry", "retry"]


def test_a_function_of_retries_is_one_call_too(flow: Flow) -> None:
    with pytest.raises(litellm.InternalServerError):
        litellm.completion_with_retries(
            model="gpt-4o-mini",
            messages=ASKED,
            mock_response="litellm.InternalServerError",
            num_retries=3,
        )
    assert flow.one("SELECT count(*) FROM llm_calls") == 1
    assert flow.sql(EVENTS)[0][0] == ["retry", "retry"]


def test_a_fallback_tells_who_really_answered(flow: Flow) -> None:
    def node(state: State) -> State:
        ask(
            model="gpt-4o",
            mock_response="litellm.RateLimitError",
            fallbacks=[{"model": "gpt-4o-mini", "mock_response": "ok"}],
        )
        return {"log": []}

    chain("a", a=node).invoke({"log": []})
    assert flow.sql("SELECT request_model, model, total_tokens, step_name FROM llm_calls") == [
        ("gpt-4o", "gpt-4o-mini", 30, "a")
    ]
    [(kinds, [payload])] = flow.sql(EVENTS)
    assert kinds == ["fallback"]
    assert {"gpt-4o", "gpt-4o-mini", "RateLimitError"} <= set(payload.split('"'))


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("stream", [False, True])
def test_a_router_retries_and_falls_back_in_one_call(
    flow: Flow, asynchronous: bool, stream: bool
) -> None:
    more = {"stream": True, "stream_options": COUNTING} if stream else {}

    async def go() -> None:
        found = await router().acompletion(model="a", messages=ASKED, **more)
        if stream:
            assert [piece async for piece in found]

    if asynchronous:
        asyncio.run(go())
    else:
        found = router().completion(model="a", messages=ASKED, **more)
        assert not stream or list(found)
    [(asked, model, provider, tokens, cost)] = flow.sql(
        "SELECT request_model, model, provider, total_tokens, cost_usd FROM llm_calls"
    )
    assert (asked, model, provider) == ("a", "claude-sonnet-4-5", "anthropic")
    assert tokens == (13 if stream else 30)
    assert cost > 0
    [(kinds, payloads)] = flow.sql(EVENTS)
    assert kinds == ["retry", "fallback"]
    assert '"b"' in payloads[1]


async def test_a_routers_responses_and_embeddings(flow: Flow) -> None:
    vectors = {"model": "text-embedding-3-small", "api_key": "x", "mock_response": [[0.1]]}
    chats = {"model": "gpt-4o-mini", "api_key": "x", "mock_response": "yo"}
    made = litellm.Router(
        model_list=[
            {"model_name": "v", "litellm_params": vectors},
            {"model_name": "c", "litellm_params": chats},
        ]
    )
    await made.aresponses(model="c", input="x", mock_response="yo")
    await made.aembedding(model="v", input=["x"])
    made.embedding(model="v", input=["x"])
    assert flow.sql(
        "SELECT operation, request_model, total_tokens FROM llm_calls ORDER BY 1, 2"
    ) == [
        ("chat", "c", 123),
        ("embeddings", "v", 10),
        ("embeddings", "v", 10),
    ]


def test_a_cached_answer_costs_nothing_and_says_so(
    flow: Flow, monkeypatch: pytest.MonkeyPatch
) -> None:
    from litellm.caching.caching import Cache

    # Its cache imports what it reads sound files with, whatever was cached.
    monkeypatch.setitem(sys.modules, "soundfile", types.ModuleType("soundfile"))
    litellm.cache = Cache(type="local")
    for _ in range(2):
        chain("a", a=lambda state: {"log": [ask(caching=True).id]}).invoke({"log": []})
    assert flow.sql("SELECT total_tokens, cost_usd, model FROM llm_calls ORDER BY started_at") == [
        (30, 1.35e-05, "gpt-4o-mini"),
        (0, 0.0, "gpt-4o-mini"),
    ]
    [(kinds, [payload])] = flow.sql(EVENTS)
    assert kinds == ["cache.hit"]
    assert "20" in payload


class Wrapping(BaseChatModel):
    """A LangChain model that asks LiteLLM, as several do."""

    tells_usage: bool = True

    @property
    def _llm_type(self) -> str:
        return "wrapping"

    def _generate(self, *args: Any, **kwargs: Any) -> ChatResult:
        found = ask()
        told = {"input_tokens": 10, "output_tokens": 20, "total_tokens": 30}
        message = AIMessage(
            found.choices[0].message.content, usage_metadata=told if self.tells_usage else None
        )
        return ChatResult(generations=[ChatGeneration(message=message)])


@pytest.mark.parametrize("tells_usage", [True, False])
@pytest.mark.parametrize("in_graph", [True, False])
def test_inside_a_langchain_model_it_is_that_models_call(
    flow: Flow, tells_usage: bool, in_graph: bool
) -> None:
    model = Wrapping(tells_usage=tells_usage)
    if in_graph:
        chain("a", a=lambda state: {"log": [model.invoke("x").content]}).invoke({"log": []})
    else:
        model.invoke("x")
    assert flow.sql("SELECT total_tokens, cost_usd, counted, provider, model FROM llm_calls") == [
        (30, 1.35e-05, True, "openai", "gpt-4o-mini")
    ]
    assert len([span for span in flow.spans if span.name.startswith("chat")]) == 1


@pytest.mark.parametrize("spans_of_its_own", [True, False])
def test_its_own_otel_callback_counts_nothing_twice(
    flow: Flow,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    spans_of_its_own: bool,
) -> None:
    from litellm.integrations.opentelemetry import OpenTelemetry, OpenTelemetryConfig
    from opentelemetry import trace

    monkeypatch.setenv("USE_OTEL_LITELLM_REQUEST_SPAN", str(spans_of_its_own))
    litellm.callbacks = [OpenTelemetry(config=OpenTelemetryConfig(exporter="console"))]

    def node(state: State) -> State:
        with trace.get_tracer("app").start_as_current_span("mine"):
            ask()
            wait_for("raw_gen_ai_request", flow)
        return {"log": []}

    chain("a", a=node).invoke({"log": []})
    assert flow.sql("SELECT total_tokens, cost_usd, llm_calls FROM engagements") == [
        (30, 1.35e-05, 1)
    ]
    assert flow.one("SELECT count(*) FROM llm_calls WHERE NOT counted") == 1
    assert "ended span" not in caplog.text


def wait_for(name: str, flow: Flow) -> None:
    """Wait until LiteLLM, in a thread of its own, told of what it did."""
    until = time.monotonic() + 120
    while time.monotonic() < until and not flow.named(name):
        time.sleep(0.01)
