"""Tokens of an extraction count once, whoever reports its requests and however many there are."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import textwrap
import types
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import instructor
import pytest
from completions import litellm, reset
from extractors import BAD, GOOD, BudgetInfo, Server
from graphs import FakeLLM, chain
from langchain_core.messages import AIMessage
from opentelemetry import trace

import spanflow
from spanflow.extraction import Extractor
from spanflow.ledger.publish import refresh

if TYPE_CHECKING:
    from conftest import Flow

pytestmark = pytest.mark.filterwarnings("ignore")  # LiteLLM's and Instructor's own

JSON = instructor.Mode.JSON  # LiteLLM takes tools only with an extra of its own
SUMS = """SELECT input_tokens, output_tokens, total_tokens, llm_calls, calls_without_usage
          FROM steps"""
SAID = "around 95,000, in Shibuya"
ONCE = (64, 20, 84, 1, 0)
TWICE = (64 + 164, 20 + 21, 84 + 185, 2, 0)
retried = pytest.mark.parametrize(
    ("answers", "sums"), [([GOOD], ONCE), ([BAD, GOOD], TWICE)], ids=["at once", "second time"]
)


def sync(client: Any, **options: Any) -> BudgetInfo:
    extractor = Extractor(client, **options)
    with spanflow.engagement("support"), spanflow.step("qualify"):
        return extractor.extract(BudgetInfo, SAID, max_tokens=99, max_retries=1)


async def awaited(client: Any, **options: Any) -> BudgetInfo:
    extractor = Extractor(client, **options)
    async with spanflow.engagement("support"), spanflow.step("qualify"):
        return await extractor.aextract(BudgetInfo, SAID, max_tokens=99, max_retries=1)


@retried
@pytest.mark.parametrize("kind", ["openai", "anthropic"])
def test_a_bare_client_that_nobody_reports(flow: Flow, kind, answers, sums) -> None:
    client = getattr(Server(*answers, cached=16), kind)()
    found = sync(client, model="gpt-4o-mini")
    assert found.model_dump() == GOOD
    assert flow.sql(SUMS) == [sums]
    told = flow.sql(
        """SELECT step_name, provider, request_model, status, cache_read_tokens
           FROM llm_calls WHERE counted"""  # newer clients of Anthropic's report themselves as well
    )
    assert told == [("qualify", kind, "gpt-4o-mini", "ok", 16)] * sums[3]


@retried
async def test_a_bare_client_that_is_awaited(flow: Flow, answers, sums) -> None:
    assert (
        await awaited(Server(*answers).async_openai(), model="gpt-4o-mini")
    ).model_dump() == GOOD
    assert flow.sql(SUMS) == [sums]


@retried
async def test_a_bare_client_in_a_thread(flow: Flow, answers, sums) -> None:
    assert (await awaited(Server(*answers).openai(), model="gpt-4o-mini")).model_dump() == GOOD
    assert flow.sql(SUMS) == [sums]
    assert flow.one("SELECT count(DISTINCT step_name) FROM llm_calls") == 1


@retried
def test_litellm_below_tells_itself(flow: Flow, answers, sums) -> None:
    assert sync(Server(*answers).completion(), model="gpt-4o-mini", mode=JSON).model_dump() == GOOD
    assert flow.sql(SUMS) == [sums]
    [(provider, cost, unpriced)] = flow.sql(
        "SELECT any_value(provider), sum(cost_usd), (SELECT sum(unpriced_calls) FROM engagements) "
        "FROM llm_calls"
    )
    assert (provider, unpriced) == ("openai", 0)
    assert cost == pytest.approx(sums[0] * 0.15e-6 + sums[1] * 0.6e-6)


@retried
async def test_litellm_below_awaited_tells_itself(flow: Flow, answers, sums) -> None:
    assert await awaited(Server(*answers).acompletion(), model="gpt-4o-mini", mode=JSON)
    assert flow.sql(SUMS) == [sums]
    assert flow.one("SELECT count(*) FROM llm_calls WHERE provider = 'openai'") == sums[3]


def test_litellms_own_function_works_as_it_is_installed(flow: Flow) -> None:
    answer = litellm.ModelResponse(
        choices=[{"message": {"content": json.dumps(GOOD)}}],
        usage={"prompt_tokens": 64, "completion_tokens": 20, "total_tokens": 84},
    )
    extractor = Extractor(litellm.completion, model="gpt-4o-mini")
    with spanflow.engagement("support"), spanflow.step("qualify"):
        extractor.extract(BudgetInfo, "hi", mock_response=answer)
    assert flow.sql(SUMS) == [ONCE]


def test_an_answer_out_of_litellms_cache_costs_nothing(flow: Flow, monkeypatch) -> None:
    from litellm.caching.caching import Cache

    # Its cache imports what it reads sound files with, whatever was cached.
    monkeypatch.setitem(sys.modules, "soundfile", types.ModuleType("soundfile"))
    litellm.cache = Cache(type="local")
    try:
        ask = Server(GOOD).completion()
        for _ in range(2):
            sync(lambda **request: ask(**request, caching=True), model="gpt-4o-mini", mode=JSON)
    finally:
        reset()
    assert flow.one("SELECT sum(total_tokens) FROM engagements") == 84
    assert flow.one("SELECT count(*) FROM events WHERE kind = 'extraction'") == 2


@retried
def test_an_instructor_client_as_it_is(flow: Flow, answers, sums) -> None:
    client = instructor.from_openai(Server(*answers).openai(), model="gpt-4o-mini")
    assert sync(client).model_dump() == GOOD
    assert flow.sql(SUMS) == [sums]
    assert flow.one("SELECT any_value(request_model) FROM llm_calls") == "gpt-4o-mini"


@retried
def test_somebody_elses_instrumentor_below(flow: Flow, answers, sums) -> None:
    client = Server(*answers).openai()
    create, tracer = client.chat.completions.create, trace.get_tracer("somebody.openai")

    def traced(**request: Any) -> Any:
        with tracer.start_as_current_span("chat gpt-4o-mini") as span:
            answer = create(**request)
            span.set_attributes(
                {
                    "gen_ai.operation.name": "chat",
                    "gen_ai.request.model": "gpt-4o-mini",
                    "gen_ai.response.id": answer.id,
                    "gen_ai.usage.input_tokens": answer.usage.prompt_tokens,
                    "gen_ai.usage.output_tokens": answer.usage.completion_tokens,
                }
            )
            return answer

    client.chat.completions.create = traced  # ty: ignore
    assert sync(client, model="gpt-4o-mini").model_dump() == GOOD
    assert flow.sql(SUMS) == [sums]
    assert flow.one("SELECT count(*) FROM llm_calls") == 2 * sums[3]


def langchain(*answers: Any) -> FakeLLM:
    return FakeLLM(
        replies=[
            AIMessage(
                "",
                tool_calls=[{"name": "BudgetInfo", "args": values, "id": "call-1"}],
                usage_metadata={"input_tokens": 64, "output_tokens": 20, "total_tokens": 84},
            )
            for values in answers
        ],
        streamed=False,
    )


def test_langchain_below_tells_itself(flow: Flow) -> None:
    extractor = Extractor(langchain(GOOD))

    def qualify(state: Any) -> Any:
        return {"log": [extractor.extract(BudgetInfo, SAID).area]}

    assert chain("qualify", qualify=qualify).invoke({"log": []})["log"] == ["Shibuya"]
    assert flow.sql(SUMS) == [ONCE]
    assert flow.sql("SELECT kind FROM events ORDER BY occurred_at") == [
        ("llm_call",),
        ("extraction",),
    ]


async def test_langchain_below_awaited_tells_itself(flow: Flow) -> None:
    extractor = Extractor(langchain(GOOD))
    async with spanflow.engagement("support"), spanflow.step("qualify"):
        assert (await extractor.aextract(BudgetInfo, "95,000")).model_dump() == GOOD
    assert flow.sql(SUMS) == [ONCE]


def test_a_request_that_fails_after_one_that_did_not_fit(flow: Flow) -> None:
    with pytest.raises(Exception, match="no"):
        sync(Server(BAD, 500).openai(), model="gpt-4o-mini")
    assert flow.sql("SELECT status, error_type, total_tokens FROM llm_calls ORDER BY ALL") == [
        ("error", "InternalServerError", None),
        ("ok", None, 84),
    ]
    assert flow.sql("SELECT * FROM events WHERE kind = 'extraction'") == []


async def test_a_cancelled_extraction_is_a_cancelled_call(flow: Flow) -> None:
    begun = asyncio.Event()

    async def never(**_: Any) -> Any:
        begun.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(awaited(never, model="gpt-4o-mini"))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert flow.sql("SELECT status, total_tokens FROM llm_calls") == [("cancelled", None)]
    assert flow.sql("SELECT * FROM events WHERE kind = 'extraction'") == []


async def test_concurrent_extractions_stay_apart(flow: Flow) -> None:
    extractor = Extractor(Server(GOOD).async_openai(), model="gpt-4o-mini")

    async def qualify(number: int) -> None:
        async with spanflow.step(f"qualify{number}"):
            await extractor.aextract(BudgetInfo, "95,000")

    async with spanflow.engagement("support"):
        await asyncio.gather(*map(qualify, range(20)))
    assert flow.one("SELECT count(*) FROM steps WHERE llm_calls = 1") == 20
    assert (
        flow.one(
            "SELECT count(*) FROM events WHERE kind = 'extraction' AND (payload->>'valid') = 'true'"
        )
        == 20
    )
    assert trace.get_current_span() is trace.INVALID_SPAN
    assert flow.one("SELECT total_tokens FROM engagements") == sum(84 + 101 * i for i in range(20))


def test_outside_an_engagement_its_calls_stand_alone(flow: Flow) -> None:
    extractor = Extractor(Server(GOOD).openai(), model="gpt-4o-mini")
    assert extractor.extract(BudgetInfo, "95,000").model_dump() == GOOD
    assert flow.sql("SELECT total_tokens, engagement_id FROM llm_calls") == [(84, None)]


def test_an_answer_out_of_instructors_cache_asks_nobody(flow: Flow) -> None:
    from instructor.cache import AutoCache

    server = Server(GOOD)
    client = instructor.from_openai(server.openai(), model="gpt-4o-mini", cache=AutoCache())
    sync(client)
    sync(client)
    assert len(server.asked) == 1
    assert flow.one("SELECT sum(total_tokens) FROM llm_calls") == 84
    assert flow.one("SELECT count(*) FROM llm_calls") == 1
    assert flow.one("SELECT count(*) FROM events WHERE kind = 'extraction'") == 2


@pytest.mark.parametrize("sampler", ["ALWAYS_ON", "ALWAYS_OFF"])
def test_what_an_apps_own_call_tells_of_it_counts_once_sampled_or_not(tmp_path, sampler) -> None:
    ledger = tmp_path / "traces.duckdb"
    program = f"""
        import sys
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from opentelemetry import trace
        from opentelemetry.sdk.trace import TracerProvider, sampling
        trace.set_tracer_provider(TracerProvider(sampler=sampling.{sampler}))
        from extractors import GOOD, BudgetInfo, Server
        import spanflow
        from spanflow.extraction import Extractor
        spanflow.configure(ledger={str(ledger)!r}, ingest="off")
        extractor = Extractor(Server(GOOD).openai(), model="gpt-4o-mini")
        with spanflow.engagement("support"), spanflow.step("qualify"):
            with spanflow.llm_call("gpt-4o-mini") as call:
                extractor.extract(BudgetInfo, "95,000")
                call.set_usage(input_tokens=64, output_tokens=20)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=True)
    refresh(ledger)
    with duckdb.connect(str(ledger), read_only=True) as connection:
        assert connection.execute(SUMS).fetchall() == [ONCE]
