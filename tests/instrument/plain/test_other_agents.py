"""What an app tells itself, around the agents of somebody else's and inside them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from foreign import agent, chat, kind, tracer
from opentelemetry import baggage
from opentelemetry import context as otel_context

import spanflow

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Flow

STEPS = "SELECT path, agent_name, status, llm_calls, tool_calls FROM steps ORDER BY started_at"


def test_inside_an_engagement_an_agent_is_a_step_of_it(flow: Flow) -> None:
    with spanflow.engagement("trip", user_id="u1"), spanflow.step("plan"):
        with agent("planner"):
            chat(1, 1)
            with kind("book", "TOOL"), spanflow.step("book"):
                spanflow.log("booked", rooms=3)
                spanflow.llm_call("m", input_tokens=2, output_tokens=2)
            spanflow.tool_call("search", result=1)
        spanflow.log("planned")
    assert flow.sql("SELECT name, turns, total_tokens FROM engagements") == [("trip", 1, 6)]
    assert flow.sql(STEPS) == [
        ("plan", None, "completed", 2, 2),
        ("plan/planner", "planner", "completed", 2, 2),
        ("plan/planner/book", "planner", "completed", 1, 0),
    ]
    asked = "SELECT e.name, path FROM events e JOIN steps USING (step_id) WHERE kind = 'log'"
    assert sorted(flow.sql(asked)) == [("booked", "plan/planner/book"), ("planned", "plan")]


def test_in_an_agents_run_goals_and_engagements_are_its_own(flow: Flow) -> None:
    with agent("planner"):
        with spanflow.engagement("inside"), spanflow.agent("helper"):
            chat(1, 1)
        spanflow.goal("booked")
        spanflow.error(ValueError("odd"))
    assert flow.sql("SELECT name, goal, turns, errors FROM engagements") == [
        ("planner", "booked", 1, 1)
    ]
    assert flow.sql(STEPS) == [("planner", "planner", "completed", 1, 0)]


def test_agents_of_both_kinds_side_by_side(flow: Flow) -> None:
    async def one(number: int) -> None:
        with spanflow.engagement(f"e{number}"):
            await asyncio.sleep(0)
            with agent(f"a{number}"):
                await asyncio.sleep(0)
                with spanflow.step(f"s{number}"):
                    await asyncio.sleep(0)
                    chat(number, 0)

    async def all_of_them() -> None:
        await asyncio.gather(*map(one, range(1, 51)))

    asyncio.run(all_of_them())
    assert flow.one(
        "SELECT count(*) FROM llm_calls c JOIN steps s USING (step_id)"
        " JOIN engagements e ON e.engagement_id = c.engagement_id"
        " WHERE e.name = 'e' || c.input_tokens AND path = format('a{0}/s{0}', c.input_tokens)"
    ) == 50  # fmt: skip


def test_an_error_that_comes_up_through_all_is_one(flow: Flow) -> None:
    with (
        pytest.raises(LookupError),
        spanflow.engagement("trip"),
        spanflow.step("plan"),
        agent("planner"),
        spanflow.step("look"),
        agent("looker"),
    ):
        raise LookupError
    assert flow.sql("SELECT status, errors FROM engagements") == [("failed", 1)]
    assert flow.sql("SELECT status, count(*) FROM steps GROUP BY ALL") == [("failed", 4)]


def test_an_agent_that_an_app_names_is_named_on_others_spans(flow: Flow) -> None:
    with spanflow.engagement("trip"), spanflow.agent("planner"):
        chat(1, 1)
        with spanflow.step("book"), tracer().start_as_current_span("GET /rooms"):
            chat(2, 1)
        with agent("writer"):
            chat(3, 1)
    chat(4, 1)
    named = "SELECT agent_name, sum(input_tokens)::INT FROM llm_calls GROUP BY ALL ORDER BY 2, 1"
    assert flow.sql(named) == [("planner", 3), ("writer", 3), (None, 4)]
    [get] = flow.named("GET /rooms")
    assert (get.attributes or {})["gen_ai.agent.name"] == "planner"


def test_calls_in_an_agents_step_are_its_own_unless_they_name_another(flow: Flow) -> None:
    with agent("planner"):
        chat(1, 0)
        with kind("look", "TOOL"), spanflow.agent("helper"):
            chat(2, 0)
        with kind("ask", "LLM", **{"gen_ai.agent.name": "other"}):
            pass
    with spanflow.engagement("trip"), spanflow.step("book"):
        chat(4, 0)
    named = "SELECT agent_name FROM llm_calls ORDER BY started_at"
    assert flow.sql(named) == [("planner",), ("helper",), ("other",), (None,)]
    assert flow.sql("SELECT agent_name FROM tool_calls") == [("planner",)]
    assert flow.sql("SELECT key, calls FROM usage_by('agent') WHERE key = 'planner'") == [
        ("planner", 1)
    ]


def test_a_request_that_brings_an_engagement_makes_their_agents_turn_a_part_of_it(
    flow_with: Callable[..., Flow],
) -> None:
    flow = flow_with(accept_baggage=True)
    context = baggage.set_baggage("spanflow.engagement.id", "case-1")
    token = otel_context.attach(context)
    try:
        with agent("writer"):
            chat(3, 1)
    finally:
        otel_context.detach(token)
    assert flow.sql("SELECT engagement_id, kind FROM turns") == [("case-1", "remote")]
