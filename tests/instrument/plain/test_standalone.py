"""Usage outside any engagement: part of what models and callers cost, and of no funnel."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from graphs import State, chain

import spanflow
from spanflow import guard

if TYPE_CHECKING:
    from conftest import Flow

BY = "SELECT key, calls, total_tokens, cost_usd FROM usage_by('{}') ORDER BY key NULLS FIRST"


def nightly(**more: Any) -> None:
    spanflow.record_llm_usage(
        "gpt-5-mini", input_tokens=900, output_tokens=100, caller="nightly.summaries", **more
    )


def test_three_of_them(flow: Flow) -> None:
    for _ in range(2):
        nightly()
    spanflow.record_llm_usage("other", total_tokens=7, cost_usd=0.5, caller="nightly.titles")
    chain("intake").invoke({"log": []})
    assert flow.sql(BY.format("model")) == [
        ("gpt-5-mini", 2, 2_000, None),
        ("other", 1, 7, 0.5),
    ]
    assert flow.sql(BY.format("caller")) == [
        ("nightly.summaries", 2, 2_000, None),
        ("nightly.titles", 1, 7, 0.5),
    ]
    assert flow.sql("SELECT step, reached, total_tokens FROM funnel(['intake'])") == [
        ("intake", 1, 0)
    ]
    assert flow.sql("SELECT count(*), sum(llm_calls), sum(total_tokens) FROM engagements") == [
        (1, 0, 0)
    ]
    assert flow.sql("SELECT DISTINCT engagement_id, turn_id, step_id FROM llm_calls") == [
        (None, None, None)
    ]
    spans = [span for span in flow.spans if span.name.startswith("chat ")]
    assert [span.parent for span in spans] == [None] * 3
    assert (spans[0].attributes or {})["spanflow.call.caller"] == "nightly.summaries"


def test_the_same_through_the_reader(flow: Flow) -> None:
    nightly()
    flow.sql("FROM meta")
    with spanflow.connect(flow.ledger) as ledger:
        [row] = ledger.usage_by("caller")
        assert (row.key, row.total_tokens, row.calls_without_usage) == (
            "nightly.summaries",
            1_000,
            0,
        )
        assert ledger.engagements() == []


def test_without_a_name_the_caller_is_the_function(flow: Flow) -> None:
    spanflow.record_llm_usage("m", input_tokens=1)
    spanflow.llm_call("m", input_tokens=1)
    with spanflow.llm_call("m"):
        pass
    assert {
        caller.rpartition(".")[2] for (caller,) in flow.sql("SELECT caller FROM llm_calls")
    } == {"test_without_a_name_the_caller_is_the_function"}


def test_what_else_is_worth_asking_for(flow: Flow) -> None:
    nightly(metadata={"batch": 7, "tenant": "ア", "odd": object()})
    attributes = json.loads(flow.one("SELECT attributes FROM records WHERE kind = 'llm'"))
    told = json.loads(attributes["spanflow.call.metadata"])
    assert (told["batch"], told["tenant"]) == (7, "ア")
    assert told["odd"].startswith("<object")


def test_inside_an_engagement_it_belongs_there(flow: Flow) -> None:
    def node(state: State) -> State:
        nightly()
        return {"log": []}

    chain("a", a=node).invoke({"log": []})
    assert flow.sql("SELECT total_tokens FROM engagements") == [(1_000,)]
    assert flow.sql("SELECT step_name, caller FROM llm_calls") == [("a", "nightly.summaries")]


def test_a_tool_outside_everything_is_no_engagement(flow: Flow) -> None:
    with spanflow.tool_call("look_up") as call:
        call.set_result(1)
        spanflow.llm_call("m", input_tokens=1, output_tokens=1)
    assert flow.sql("SELECT name, engagement_id FROM tool_calls") == [("look_up", None)]
    assert flow.sql("SELECT total_tokens, engagement_id FROM llm_calls") == [(2, None)]
    assert flow.sql("FROM engagements") == []


@pytest.mark.filterwarnings("ignore")  # LiteLLM's own
def test_litellm_outside_and_inside(flow: Flow) -> None:
    import litellm

    def ask() -> None:
        litellm.completion(
            model="gpt-4o-mini",
            messages=[{"role": "user", "content": "hello"}],
            mock_response="hello to you",
        )

    ask()
    with spanflow.engagement("x", id="1"), spanflow.step("a"):
        ask()
    rows = flow.sql("SELECT engagement_id, step_name, total_tokens FROM llm_calls ORDER BY 1")
    assert rows == [("1", "a", 30), (None, None, 30)]
    assert flow.sql("SELECT total_tokens FROM engagements") == [(30,)]


@pytest.mark.parametrize(
    "given",
    [
        {"model": None},
        {"model": "m", "metadata": 7},
        {"model": "m", "metadata": {"a": float("nan")}, "caller": 7},
        {"model": "m", "input_tokens": "many", "provider": ["x"]},
        {"model": object()},
    ],
)
def test_whatever_it_is_given_it_does_not_raise(flow: Flow, given: dict[str, Any]) -> None:
    guard.set_strict(False)
    spanflow.record_llm_usage(**given)
    spanflow.record_llm_usage("after", input_tokens=1, output_tokens=1)
    assert flow.sql("SELECT total_tokens FROM llm_calls WHERE model = 'after'") == [(2,)]
