"""Calls that an app tells: where they belong, what they spent, what is kept of what was said."""

from __future__ import annotations

import asyncio
import gc
import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from graphs import State, chain, llm
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import spanflow
from spanflow import guard

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Flow

CONTENT = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
SPENT = "input_tokens, output_tokens, total_tokens"
SOME = settings(
    deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)


def test_a_call_as_a_block_and_at_once(flow: Flow) -> None:
    with spanflow.engagement("x", id="1"), spanflow.step("a") as s:
        with spanflow.llm_call("gpt-5-mini", provider="openai") as call:
            call.set_usage(input_tokens=120, output_tokens=30, cache_read_tokens=100)
            call.set_usage(reasoning_tokens=10)
            call.set_answer(model="gpt-5-mini-2025", response_id="r-1")
        spanflow.llm_call("claude-5", provider="anthropic", input_tokens=12, output_tokens=3)
    assert flow.sql(
        f"SELECT provider, model, {SPENT}, cache_read_tokens, reasoning_tokens, counted, status,"
        " step_id, duration_ms > 0, started_at <= ended_at FROM llm_calls ORDER BY started_at"
    ) == [
        ("openai", "gpt-5-mini-2025", 120, 30, 150, 100, 10, True, "ok", s.step_id, True, True),
        ("anthropic", "claude-5", 12, 3, 15, None, None, True, "ok", s.step_id, True, True),
    ]
    first, second = [span for span in flow.spans if span.name.startswith("chat ")]
    assert first.attributes is not None
    assert first.attributes["gen_ai.usage.input_tokens"] == 120
    assert first.attributes["gen_ai.request.model"] == "gpt-5-mini"
    assert first.attributes["gen_ai.response.model"] == "gpt-5-mini-2025"
    assert first.attributes["gen_ai.response.id"] == "r-1"
    assert second.name == "chat claude-5"


@pytest.mark.parametrize(
    ("told", "kept", "flagged"),
    [
        ({"input_tokens": 5, "output_tokens": 5}, (5, 5, 10), None),
        ({"total_tokens": 30}, (None, None, 30), None),
        ({"input_tokens": 50, "output_tokens": 20, "total_tokens": 3}, (50, 20, 3), True),
        ({"input_tokens": np.int64(7), "output_tokens": Decimal(3)}, (7, 3, 10), None),
        ({"input_tokens": -5}, (None, None, None), True),
        ({"input_tokens": "5", "output_tokens": 2}, (None, 2, None), True),
        ({"input_tokens": None}, (None, None, None), None),
        ({"input_tokens": 0, "output_tokens": 0}, (0, 0, 0), None),
        ({"cost_usd": 0.25}, (None, None, None), None),
    ],
)
def test_numbers_are_kept_as_they_are_or_not_at_all(
    flow: Flow, told: dict[str, Any], kept: tuple[Any, ...], flagged: bool | None
) -> None:
    with spanflow.engagement("x", id="1"), spanflow.step("a"):
        spanflow.llm_call("m", **told)
    assert flow.sql(f"SELECT {SPENT} FROM llm_calls") == [kept]
    known = any(number is not None for number in kept)
    assert flow.sql("SELECT total_tokens, calls_without_usage FROM engagements") == [
        (kept[2], 0 if known else 1)
    ]
    [span] = flow.named("chat m")
    assert ("spanflow.usage.flags" in (span.attributes or {})) == bool(flagged)
    assert guard.counts() == ({"usage.refused": 1} if flagged and kept[0] != 50 else {})
    assert flow.one("SELECT cost_usd FROM llm_calls") == told.get("cost_usd")


def test_a_misspelt_number_is_told(flow: Flow) -> None:
    with spanflow.step("a"):
        spanflow.llm_call("m", prompt_tokens=5, output_tokens=1)
        with spanflow.llm_call("m", input_tokens=1) as over:
            over.set_usage(output_tokens=1)
    assert guard.counts() == {"usage.unknown": 1, "usage.late": 1}
    assert flow.sql(f"SELECT {SPENT} FROM llm_calls ORDER BY started_at") == [
        (None, 1, None),
        (1, None, None),
    ]


tokens = st.none() | st.integers(0, 10**6)
spent = st.fixed_dictionaries(
    {},
    optional={
        "input_tokens": tokens,
        "output_tokens": tokens,
        "cost_usd": st.none() | st.integers(0, 9),
    },
)


@settings(SOME, max_examples=15)
@given(steps=st.lists(st.lists(spent, max_size=4), min_size=1, max_size=4))
def test_sums_are_those_of_a_slow_sum(
    flow_with: Callable[..., Flow], tmp_path_factory: Any, steps: list[list[dict[str, Any]]]
) -> None:
    ledger = tmp_path_factory.mktemp("sums") / "t.duckdb"
    flow = flow_with(ledger=ledger)
    flow.ledger = ledger
    with spanflow.engagement("x", id="sum"), spanflow.step("all"):
        for number, calls in enumerate(steps):
            with spanflow.step(f"s{number}"):
                for call in calls:
                    with spanflow.llm_call("m") as told:
                        told.set_usage(**call)

    def slow(calls: list[dict[str, Any]]) -> tuple[Any, ...]:
        def total(call: dict[str, Any]) -> int | None:
            given, made = call.get("input_tokens"), call.get("output_tokens")
            return given + made if given is not None and made is not None else None

        def add(values: list[Any]) -> Any:
            known = [value for value in values if value is not None]
            return sum(known) if known or not values else None

        return (
            len(calls),
            add([call.get("input_tokens") for call in calls]),
            add([call.get("output_tokens") for call in calls]),
            add([total(call) for call in calls]),
            add([call.get("cost_usd") for call in calls]),
            sum(
                call.get("input_tokens") is None and call.get("output_tokens") is None
                for call in calls
            ),
            sum(call.get("cost_usd") is None for call in calls),
        )

    sums = f"llm_calls, {SPENT}, cost_usd, calls_without_usage, unpriced_calls"
    everything = [call for calls in steps for call in calls]
    for view in ("engagements", "turns"):
        assert flow.sql(f"SELECT {sums} FROM {view}") == [slow(everything)], view
    assert flow.sql(f"SELECT {sums} FROM steps ORDER BY started_at") == [
        slow(everything),
        *(slow(calls) for calls in steps),
    ]


def test_a_tool_as_a_block_and_at_once(flow: Flow) -> None:
    with spanflow.engagement("x", id="1"), spanflow.step("search") as s:
        with spanflow.tool_call("look_up", arguments={"area": "Ueno"}, call_id="c-1") as call:
            call.set_result({"hits": 3})
        spanflow.tool_call("look_up", result=None)
        spanflow.tool_call("look_up", error=TimeoutError("no answer"))
        with pytest.raises(ValueError, match="bad"), spanflow.tool_call("look_up"):
            raise ValueError("bad")  # noqa: EM101
    assert flow.sql(
        "SELECT name, call_id, status, error_type, arguments, result, step_id"
        " FROM tool_calls ORDER BY started_at"
    ) == [
        ("look_up", "c-1", "ok", None, None, None, s.step_id),
        ("look_up", None, "ok", None, None, None, s.step_id),
        ("look_up", None, "error", "TimeoutError", None, None, s.step_id),
        ("look_up", None, "error", "ValueError", None, None, s.step_id),
    ]
    assert flow.sql("SELECT status, errors, tool_calls FROM engagements") == [("completed", 0, 4)]


def test_a_call_that_nobody_enters_ends_when_nobody_holds_it(flow: Flow) -> None:
    with spanflow.engagement("x", id="1"):
        with spanflow.step("a"):
            spanflow.tool_call("bare")
            held = spanflow.tool_call("held")
            spanflow.llm_call("bare")
        assert len(flow.named("execute_tool bare")) == 1
        assert flow.named("execute_tool held") == []
        del held
        gc.collect()
    assert flow.sql("SELECT name, status FROM tool_calls ORDER BY started_at") == [
        ("bare", "ok"),
        ("held", "ok"),
    ]
    assert flow.sql("SELECT llm_calls, tool_calls, calls_without_usage FROM engagements") == [
        (1, 2, 1)
    ]


def test_what_is_inside_a_call_counts_once(flow: Flow) -> None:
    """A call told around the one that a framework reports is that call; within a tool it is one."""
    with spanflow.engagement("x", id="1"), spanflow.step("a"):
        with spanflow.llm_call("m") as call:
            llm(30, 10).invoke("hello")
            call.set_usage(input_tokens=30, output_tokens=10)
        with spanflow.tool_call("agent"):
            llm(5, 5).invoke("hello")
    assert flow.one("SELECT total_tokens FROM engagements") == 50
    # The one inside tells which model answered.
    assert flow.sql(
        "SELECT request_model, model, counted, not_counted_because FROM llm_calls"
        " ORDER BY started_at"
    ) == [("m", "fake-1", True, None), ("fake-1", "fake-1", True, None)]


def test_a_call_around_one_that_knows_more_takes_its_numbers(flow: Flow) -> None:
    with spanflow.engagement("x", id="1"), spanflow.step("a"), spanflow.llm_call("m"):
        llm(30, 10).invoke("hello")
    assert flow.sql("SELECT total_tokens, llm_calls, calls_without_usage FROM engagements") == [
        (40, 1, 0)
    ]


def test_calls_by_id_from_elsewhere(flow: Flow) -> None:
    with spanflow.engagement("x", id="1"), spanflow.step("a") as a, spanflow.step("b"):
        spanflow.llm_call("m", input_tokens=3, output_tokens=4, step_id=a.step_id)
        with spanflow.tool_call("t", step_id=a.step_id):
            spanflow.llm_call("m", input_tokens=1, output_tokens=1)
    assert flow.sql("SELECT step_name, total_tokens FROM llm_calls ORDER BY started_at") == [
        ("a", 7),
        ("a", 2),
    ]
    assert flow.sql("SELECT path, total_tokens FROM steps ORDER BY path") == [("a", 9), ("a/b", 0)]
    assert flow.one("SELECT step_name FROM tool_calls") == "a"


async def test_calls_side_by_side(flow: Flow) -> None:
    async def ask(number: int) -> None:
        async with spanflow.step(f"s{number}"), spanflow.llm_call("m") as call:
            await asyncio.sleep(0.001 * (number % 5))
            call.set_usage(input_tokens=number, output_tokens=0)

    async with spanflow.engagement("x", id="1"):
        await asyncio.gather(*(ask(number) for number in range(30)))
    assert flow.sql("SELECT name, total_tokens FROM steps ORDER BY total_tokens") == [
        (f"s{number}", number) for number in range(30)
    ]


def said(flow: Flow) -> str:
    """Everything that was written anywhere."""
    flow.sql("FROM meta")
    raw = b"".join(p.read_bytes() for p in flow.ledger.parent.rglob("*") if p.is_file())
    return raw.decode(errors="replace") + "".join(span.to_json() for span in flow.spans)


def whisper() -> None:
    with spanflow.step("a"):
        with spanflow.llm_call("m", input="secret question") as call:
            call.set_messages(output="secret answer")
        spanflow.llm_call("m", input="secret question", output={"text": "secret answer"})
        spanflow.tool_call("t", arguments={"q": "secret question"}, result="secret answer")


def test_what_was_said_is_not_kept(flow: Flow) -> None:
    whisper()
    assert "secret" not in said(flow)
    assert flow.sql("SELECT arguments, result FROM tool_calls") == [(None, None)]


def test_what_was_said_is_kept_where_that_is_switched_on(
    flow: Flow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CONTENT, "SPAN_ONLY")
    monkeypatch.setenv("OTEL_SEMCONV_STABILITY_OPT_IN", "gen_ai_latest_experimental")
    whisper()
    assert flow.sql("SELECT arguments, result FROM tool_calls") == [
        ('{"q":"secret question"}', "secret answer")
    ]
    for span in flow.named("chat m"):
        assert span.attributes is not None
        assert "secret question" in str(span.attributes["gen_ai.input.messages"])
        assert "secret answer" in str(span.attributes["gen_ai.output.messages"])


@pytest.mark.parametrize(
    "payload",
    [
        "text",
        [1, 2],
        b"\xff\0",
        object(),
        "\ud800",
        float("nan"),
        {1: {2: "x"}, None: 1},
        {"a": {1}},
    ],
    ids=["text", "list", "bytes", "object", "surrogate", "nan", "odd keys", "set"],
)
def test_any_payload_is_kept_as_text(
    flow: Flow, payload: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CONTENT, "SPAN_ONLY")
    monkeypatch.setenv("OTEL_SEMCONV_STABILITY_OPT_IN", "gen_ai_latest_experimental")

    def node(state: State) -> State:
        spanflow.tool_call("検索🔍", arguments=payload, result=payload)
        spanflow.llm_call("m", input=payload, output=payload)
        spanflow.log("payload", it=payload)
        return {"log": ["ran"]}

    assert chain("a", a=node).invoke({"log": []}) == {"log": ["ran"]}
    [(arguments, result)] = flow.sql("SELECT arguments, result FROM tool_calls")
    assert arguments == result
    assert arguments is not None
    json.loads(flow.one("SELECT payload FROM events WHERE kind = 'log'"))
    assert flow.one("SELECT status FROM engagements") == "completed"


def test_a_huge_payload_is_cut(flow: Flow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CONTENT, "SPAN_ONLY")
    monkeypatch.setenv("OTEL_SEMCONV_STABILITY_OPT_IN", "gen_ai_latest_experimental")
    with spanflow.step("a"):
        spanflow.tool_call("t", result="x" * 20_000_000)
        spanflow.log("big", it="y" * 20_000_000)
    result, attributes = flow.sql(
        "SELECT t.result, r.attributes FROM tool_calls t JOIN records r USING (span_id)"
    )[0]
    assert len(result) == 16_384
    told = json.loads(attributes)
    assert told["spanflow.payload.truncated"] is True
    assert told["spanflow.payload.original_size"] == 20_000_000
    payload = json.loads(flow.one("SELECT payload FROM events WHERE kind = 'log'"))
    assert (payload["truncated"], payload["original_size"]) == (True, 20_000_009)
    assert len(payload["text"]) <= 16_384
