"""LiteLLM's functions called directly: in a step, in a tool, and outside any engagement."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
from completions import ASKED, answer, ask, litellm, reset
from graphs import State, chain, llm
from opentelemetry.trace import StatusCode

from spanflow import guard

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from conftest import Flow

completion = litellm.completion  # as a module has it that was imported before capture began
pytestmark = pytest.mark.filterwarnings("ignore")  # LiteLLM's own


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    yield
    reset()


def asking(**more: Any) -> Callable[[State], State]:
    def node(state: State) -> State:
        ask(**more)
        return {"log": ["asked"]}

    return node


def asyncly(make: Callable[[], Any]) -> Any:
    async def node(state: State) -> State:
        await make()
        return {"log": ["asked"]}

    return node


def test_a_call_in_a_node_belongs_to_its_step(flow: Flow) -> None:
    chain("a", a=asking(model="openai/gpt-4o-mini")).invoke({"log": []})
    assert flow.sql(
        """SELECT step_name, provider, request_model, model, response_id, caller, status
           FROM llm_calls"""
    ) == [("a", "openai", "openai/gpt-4o-mini", "gpt-4o-mini", "chatcmpl-1", None, "ok")]
    assert flow.sql("SELECT total_tokens, cost_usd, counted FROM llm_calls") == [
        (30, 1.35e-05, True)
    ]
    [[_, [[_, calls]]]] = flow.tree()
    assert calls == ["chat openai/gpt-4o-mini"]
    assert flow.sql("SELECT total_tokens, cost_usd, unpriced_calls FROM engagements") == [
        (30, 1.35e-05, 0)
    ]
    [span] = flow.named("chat openai/gpt-4o-mini")
    assert span.attributes is not None
    assert span.attributes["gen_ai.usage.input_tokens"] == 10
    assert span.attributes["gen_ai.provider.name"] == "openai"
    assert span.attributes["spanflow.usage.cost_usd"] == 1.35e-05


def test_outside_any_engagement_it_is_usage_with_a_caller(flow: Flow) -> None:
    def nightly() -> None:
        litellm.completion(model="gpt-4o-mini", messages=ASKED, mock_response=answer())

    nightly()
    [(caller, tokens, engagement)] = flow.sql(
        "SELECT caller, total_tokens, engagement_id FROM llm_calls"
    )
    assert caller.endswith(
        ".test_litellm.test_outside_any_engagement_it_is_usage_with_a_caller.nightly"
    )
    assert (tokens, engagement) == (30, None)
    assert flow.one("SELECT count(*) FROM engagements") == 0


def test_a_caller_is_no_library(flow: Flow) -> None:
    def weekly() -> None:
        llm(1, 2).invoke("x")

    weekly()
    assert flow.one("SELECT caller FROM llm_calls").endswith("a_caller_is_no_library.weekly")


def test_a_request_of_an_unknown_shape_is_a_call_all_the_same(
    flow_with: Callable[..., Flow], monkeypatch: pytest.MonkeyPatch
) -> None:
    from spanflow.instrument import completions

    def broken(*_: object) -> None:
        raise TypeError

    guard.set_strict(False)
    flow = flow_with()
    monkeypatch.setattr(completions, "describe_request", broken)
    assert ask().usage.total_tokens == 30
    monkeypatch.setattr(completions, "describe_answer", broken)
    monkeypatch.setattr(completions.Pieces, "describe", broken)
    assert ask().usage.total_tokens == 30
    assert list(ask(mock_response="hi", stream=True))
    assert flow.sql("SELECT status, total_tokens FROM llm_calls ORDER BY started_at") == [
        ("ok", 30),
        ("ok", None),
        ("ok", None),
    ]


async def test_asynchronous_calls_side_by_side(flow: Flow) -> None:
    async def many() -> None:
        await asyncio.gather(
            *(
                litellm.acompletion(
                    model="gpt-4o-mini", messages=ASKED, mock_response=answer(number, 1)
                )
                for number in range(1, 6)
            )
        )

    await chain("a", a=asyncly(many)).ainvoke({"log": []})
    assert flow.sql("SELECT count(*), sum(input_tokens), min(step_name) FROM llm_calls") == [
        (5, 15, "a")
    ]
    assert flow.sql("SELECT llm_calls, total_tokens FROM engagements") == [(5, 20)]


def test_a_function_imported_before_capture_began(flow: Flow) -> None:
    completion(model="gpt-4o-mini", messages=ASKED, mock_response=answer())
    assert flow.one("SELECT count(*) FROM llm_calls") == 1


def test_text_completions_and_responses_are_one_call_each(flow: Flow) -> None:
    litellm.text_completion(model="gpt-3.5-turbo-instruct", prompt="a", mock_response="yo")
    litellm.responses(model="gpt-4o-mini", input="a", mock_response="yo")
    asyncio.run(litellm.aresponses(model="gpt-4o-mini", input="a", mock_response="yo"))
    assert flow.sql(
        "SELECT operation, request_model, total_tokens, cost_usd > 0 FROM llm_calls ORDER BY ALL"
    ) == [
        ("chat", "gpt-4o-mini", 123, True),
        ("chat", "gpt-4o-mini", 123, True),
        ("text_completion", "gpt-3.5-turbo-instruct", 30, True),
    ]


async def test_embeddings(flow: Flow) -> None:
    litellm.embedding(model="text-embedding-3-small", input=["a"], mock_response=[[0.1]])
    await litellm.aembedding(model="text-embedding-3-small", input=["a"], mock_response=[[0.1]])
    assert (
        flow.sql("SELECT operation, model, input_tokens, cost_usd FROM llm_calls")
        == [("embeddings", "text-embedding-3-small", 10, 2e-07)] * 2
    )
    assert len(flow.named("embeddings text-embedding-3-small")) == 2


def test_cached_and_reasoning_tokens(flow: Flow) -> None:
    details = {
        "prompt_tokens_details": {"cached_tokens": 600},
        "completion_tokens_details": {"reasoning_tokens": 100},
    }
    ask(mock_response=answer(1000, 500, **details))
    assert flow.sql(
        """SELECT input_tokens, cache_read_tokens, output_tokens, reasoning_tokens, cost_usd
           FROM llm_calls"""
    ) == [(1000, 600, 500, 100, 0.000405)]


@pytest.mark.parametrize("model", ["openai/nonesuch", "anthropic/claude-sonnet-4-20250514"])
def test_a_model_without_a_price_is_unpriced_and_never_free(flow: Flow, model: str) -> None:
    chain("a", a=asking(model=model, mock_response=answer(model="x"))).invoke({"log": []})
    assert flow.sql("SELECT cost_usd, unpriced_calls, total_tokens FROM engagements") == [
        (None, 1, 30)
    ]


def test_no_usage_is_unknown(flow: Flow) -> None:
    silent = answer(0, 0)
    chain("a", a=asking(mock_response=silent)).invoke({"log": []})
    assert flow.sql("SELECT total_tokens, calls_without_usage FROM engagements") == [(None, 1)]


def test_a_call_that_fails(flow: Flow) -> None:
    def node(state: State) -> State:
        with pytest.raises(litellm.RateLimitError):
            ask(mock_response="litellm.RateLimitError")
        return {"log": []}

    chain("a", a=node).invoke({"log": []})
    assert flow.sql("SELECT status, error_type, total_tokens, provider FROM llm_calls") == [
        ("error", "RateLimitError", None, "openai")
    ]
    [span] = flow.named("chat gpt-4o-mini")
    assert span.status.status_code is StatusCode.ERROR


def test_threads_given_the_context(flow: Flow) -> None:
    import contextvars

    def node(state: State) -> State:
        thread = threading.Thread(target=contextvars.copy_context().run, args=(ask,))
        thread.start()
        thread.join()
        return {"log": []}

    chain("a", a=node).invoke({"log": []})
    assert flow.sql("SELECT step_name, total_tokens FROM llm_calls") == [("a", 30)]


def test_content_is_kept_where_it_is_captured(
    flow_with: Callable[..., Flow], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "SPAN_ONLY")
    flow = flow_with()
    ask()
    "".join(
        piece.choices[0].delta.content or "" for piece in ask(mock_response="said", stream=True)
    )
    texts = [str(row[0]) for row in flow.sql("SELECT attributes FROM spans WHERE kind = 'llm'")]
    assert all("two tickets, please" in text for text in texts)
    assert "said" in "".join(texts)
    assert '"ok"' in "".join(texts)


def test_content_is_left_out_otherwise(flow: Flow) -> None:
    ask()
    assert "two tickets" not in str(flow.sql("SELECT * FROM spans"))
    assert "two tickets" not in str([dict(span.attributes or {}) for span in flow.spans])


def test_a_run_that_is_left_out(flow: Flow) -> None:
    chain("a", a=asking()).invoke({"log": []}, {"metadata": {"spanflow_enabled": False}})
    assert flow.spans == []


def test_uninstrumenting_puts_everything_back(flow: Flow) -> None:
    import spanflow

    here = sys.modules[__name__]
    assert hasattr(litellm.completion, "__self__") or here.completion is litellm.completion
    spanflow.uninstrument()
    names = ("completion", "acompletion", "embedding", "responses", "completion_with_retries")
    kinds = {type(getattr(litellm, name)).__name__ for name in names}
    kinds |= {type(vars(litellm.Router)["completion"]).__name__, type(here.completion).__name__}
    assert kinds == {"function"}


def test_garbage_in_an_answer_never_reaches_the_caller(flow: Flow) -> None:
    broken = answer(-5, 7)
    broken.model = None
    chain("a", a=asking(mock_response=broken)).invoke({"log": []})
    assert flow.sql("SELECT input_tokens, output_tokens FROM llm_calls") == [(None, 7)]
    gc.collect()
