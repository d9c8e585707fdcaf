"""All that an app tells is the same rows, whoever tells it: journal, exporter, OTLP file."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING, Any

import pytest
from feeds import captured, exported, filed, rows
from graphs import State, chain, llm

import spanflow
from spanflow.instrument.plain.call_blocks import RetrievalBlock
from spanflow.instrument.plain.traces import TraceBlock

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Flow


def run_everything() -> None:
    """Every function of the API, in plain code and in a node, each way it can end."""
    with spanflow.engagement(
        "trip", id="t-1", user_id="ada", session_id="s", goals=["paid"], metadata={"a": [1, "1"]}
    ):
        with spanflow.step("intake", tools=["look_up"]), spanflow.agent("planner", role="plans"):
            with spanflow.llm_call("m", provider="openai") as call:
                call.set_usage(input_tokens=30, output_tokens=10, cache_read_tokens=5)
                call.set_answer(model="m-2", response_id="r")
            spanflow.llm_call("m", input_tokens=50, output_tokens=20, total_tokens=3, cost_usd=0.5)
            with spanflow.agent("writer"), spanflow.step("draft"):
                spanflow.tool_call("look_up", arguments={"a": 1}, result="x", call_id="c")
                spanflow.tool_call("look_up", error=TimeoutError("late"))
                with RetrievalBlock("shelf"), TraceBlock("traced"):
                    spanflow.llm_call("m")
        spanflow.extraction("Budget", {"budget": 95_000})
        spanflow.log("noted", price=1.5)
        spanflow.error(OSError("caught"))
        with spanflow.step("escalate", is_global=True), spanflow.step("confirm"):
            spanflow.pause("approval", {"card": 1})
    with spanflow.resume("t-1", resolution="approved"):
        llm(3, 4).invoke("of the turn itself")
        with spanflow.step("paid"):
            spanflow.goal("bonus")
    with spanflow.resume("t-1", resolution="again"), spanflow.step("thanks"):
        pass
    with spanflow.engagement("trip", id="t-2"), spanflow.step("offer"):
        spanflow.gave_up("too expensive")
    for error in (ValueError("boom"), OSError(), asyncio.CancelledError(), KeyboardInterrupt()):
        with (
            pytest.raises(type(error)),
            spanflow.agent("lone"),
            spanflow.step("a"),
            spanflow.agent("inner"),
            TraceBlock("traced"),
            spanflow.tool_call("t"),
        ):
            raise error
    spanflow.record_llm_usage(
        "m", input_tokens=5, output_tokens=5, caller="nightly", metadata={"b": 1}
    )
    with TraceBlock("outside"):
        spanflow.tool_call("alone", result=1)

    def node(state: State) -> State:
        with spanflow.step("look"), spanflow.agent("planner"):
            llm(1, 1).invoke("x")
            spanflow.llm_call("own", input_tokens=1, output_tokens=1)
        spanflow.goal("seen")
        return {"log": ["x"]}

    chain("a", "b", a=node).invoke({"log": []})
    with spanflow.engagement("around", id="t-3"), spanflow.agent("boss"):
        chain("a", "b", a=node).invoke({"log": []})


CONTENT = pytest.mark.parametrize("content", ["NO_CONTENT", "SPAN_ONLY"])


@CONTENT
def test_each_feed_alone_and_all_in_any_order(
    flow: Flow, tmp_path: Path, content: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", content)
    monkeypatch.setenv("OTEL_SEMCONV_STABILITY_OPT_IN", "gen_ai_latest_experimental")
    run_everything()
    journal, spans = captured(flow), flow.spans
    backwards = [spans[::-1][first : first + 5] for first in range(0, len(spans), 5)]
    feeds = {
        "journal": journal,
        "export": exported(tmp_path / "export.duckdb", [spans]),
        "file": filed(tmp_path / "file.duckdb", backwards),
    }
    expected = rows(tmp_path / "fresh", [feeds["journal"]])
    counted = {view: len(found) for view, found in expected.items()}
    assert {view: counted[view] for view in ("engagements", "turns", "waits")} == {
        "engagements": 8,
        "turns": 10,
        "waits": 1,
    }
    for name in ("export", "file"):
        found = rows(tmp_path / "fresh", [feeds[name]])
        for view, wanted in expected.items():
            assert found[view] == wanted, (name, view)
    for order in itertools.permutations(feeds, 2):
        found = rows(tmp_path / "fresh", [feeds[name] for name in (*order, order[0])])
        for view, wanted in expected.items():
            assert found[view] == wanted, (order, view)


SAMPLED = """
import spanflow
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
if {off}:
    trace.set_tracer_provider(TracerProvider(sampler=ALWAYS_OFF))
spanflow.configure(ledger={ledger!r}, ingest="off")
with spanflow.engagement("x", id="1", goals=["paid"]):
    with spanflow.step("a"), spanflow.agent("planner"):
        with spanflow.llm_call("m") as call:
            call.set_usage(input_tokens=3, output_tokens=4)
        spanflow.tool_call("t", result=1)
        with spanflow.step("b"):
            spanflow.pause("approval")
with spanflow.resume("1"), spanflow.step("paid"):
    spanflow.log("done")
spanflow.record_llm_usage("m", input_tokens=1, output_tokens=1, caller="c")
"""


@pytest.mark.parametrize("off", [True, False], ids=["sampled out", "sampled"])
def test_sampling_thins_traces_and_never_the_ledger(flow: Flow, off: bool) -> None:
    import subprocess
    import sys

    done = subprocess.run(
        [sys.executable, "-c", SAMPLED.format(off=off, ledger=str(flow.ledger))],
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )
    assert done.stderr == ""
    assert flow.sql(
        "SELECT status, goal, turns, steps, llm_calls, tool_calls, total_tokens FROM engagements"
    ) == [("completed", "paid", 2, 3, 1, 1, 7)]
    assert flow.sql("SELECT path, status FROM steps ORDER BY started_at") == [
        ("a", "waiting"),
        ("a/b", "waiting"),
        ("paid", "completed"),
    ]
    assert flow.sql("SELECT label, resolution FROM waits") == [("approval", "answered")]
    assert flow.sql("SELECT agent_name, caller FROM llm_calls ORDER BY caller NULLS FIRST") == [
        ("planner", None),
        (None, "c"),
    ]
    assert flow.one("SELECT count(DISTINCT span_id) = count(*) FROM records") is True


def test_a_call_and_its_events_are_in_the_order_of_what_happened(flow: Flow) -> None:
    with spanflow.engagement("x", id="1"), spanflow.step("a"):
        for number in range(3):
            spanflow.llm_call(f"m{number}", input_tokens=1)
            spanflow.tool_call(f"t{number}", result=1)
            spanflow.log(f"l{number}")
    found: list[Any] = flow.sql("SELECT name FROM events ORDER BY occurred_at")
    assert [name for (name,) in found] == ["m0", "t0", "l0", "m1", "t1", "l1", "m2", "t2", "l2"]
