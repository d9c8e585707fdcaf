"""What becomes of agents of somebody else's whose turn is over, or that a request brought here."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from foreign import agent, chat, kind, tracer
from graphs import State, chain
from opentelemetry import baggage, propagate
from opentelemetry import context as otel_context

import spanflow

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from conftest import Flow

ENGAGEMENTS = "SELECT name, status, llm_calls, total_tokens FROM engagements ORDER BY started_at"
STEPS = "SELECT path, status, total_tokens FROM steps ORDER BY started_at"
WAITS = "SELECT path, label, resolution, is_open FROM waits ORDER BY occurred_ns"
ID = "spanflow.engagement.id"


async def in_agent(begin: Callable[[], None]) -> None:
    with agent("front"):
        begin()


async def in_block(begin: Callable[[], None]) -> None:
    with spanflow.engagement("front"), spanflow.step("front"):
        begin()


async def in_graph(begin: Callable[[], None]) -> None:
    async def front(_: State) -> State:
        begin()
        return {"log": ["x"]}

    graph = chain("front", front=front)
    graph.name = "front"
    await graph.ainvoke({"log": []})


@pytest.mark.parametrize("inside", [in_agent, in_block, in_graph])
def test_an_agent_that_begins_after_the_turn_around_it_has_an_engagement_of_its_own(
    flow: Flow, inside: Callable[[Callable[[], None]], Awaitable[None]]
) -> None:
    over = asyncio.Event()

    async def work() -> None:
        await over.wait()
        with agent("behind"):
            chat(100, 10)
            with agent("sub"):
                chat(5, 5)
                spanflow.log("noticed")

    async def main() -> None:
        tasks: list[asyncio.Task[None]] = []
        await inside(lambda: tasks.append(asyncio.create_task(work())))
        over.set()
        await tasks[0]

    asyncio.run(main())
    assert flow.sql(ENGAGEMENTS) == [("front", "completed", 0, 0), ("behind", "completed", 2, 120)]
    assert flow.sql(STEPS)[1:] == [("behind", "completed", 120), ("behind/sub", "completed", 10)]
    assert flow.sql(
        "SELECT s.path FROM events e JOIN steps s USING (step_id) WHERE kind = 'log'"
    ) == [("behind/sub",)]
    [span] = flow.named("invoke_agent behind")
    [turn] = flow.named("invoke_workflow behind")
    assert span.context is not None
    assert span.parent is not None
    assert turn.parent is not None
    assert turn.parent.span_id == span.context.span_id
    [link] = turn.links
    assert link.context.span_id == span.parent.span_id
    assert dict(link.attributes or {}) == {"spanflow.link.kind": "started_by"}


def test_what_goes_on_in_a_paused_agent_belongs_to_no_turn(flow: Flow) -> None:
    with agent("planner"):
        spanflow.pause("approval")
        with kind("later", "CHAIN"), agent("researcher"):
            pass
    with kind("crew", "CHAIN"):
        spanflow.pause("approval")
        with agent("researcher"):
            pass
    with agent("planner"):
        pass
    assert flow.sql("SELECT name, status FROM engagements ORDER BY started_at") == [
        ("planner", "paused"),
        ("crew", "paused"),
        ("planner", "completed"),
    ]


def test_a_pause_in_an_agent_is_waited_for_in_its_step(flow: Flow) -> None:
    with spanflow.engagement("shop", id="S1"), agent("buyer"), agent("payer"):
        spanflow.pause("approval", {"usd": 95})
    with spanflow.resume("S1", resolution="approved"):
        pass
    assert [row[:2] for row in flow.sql(STEPS)] == [
        ("buyer", "waiting"),
        ("buyer/payer", "waiting"),
    ]
    assert flow.sql(WAITS) == [("buyer/payer", "approval", "approved", False)]
    [span] = flow.named("invoke_agent payer")
    assert (span.attributes or {})["spanflow.step.status"] == "waiting"


def test_an_agent_that_fails_after_its_pause_still_waits(flow: Flow) -> None:
    def fail() -> None:
        with agent("buyer"):
            spanflow.pause("approval")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert [row[:2] for row in flow.sql(STEPS)] == [("buyer", "waiting")]
    assert flow.sql(WAITS) == [("buyer", "approval", None, True)]


def sent() -> object:
    headers: dict[str, str] = {}
    propagate.inject(headers)
    return headers.get("baggage")


@pytest.mark.parametrize("accepted", [True, False])
def test_what_a_request_brought_is_told_to_nobody_inside_an_agent(
    flow_with: Callable[..., Flow], accepted: bool
) -> None:
    flow = flow_with(accept_baggage=accepted)
    brought = baggage.set_baggage("tenant", "acme", baggage.set_baggage(ID, "case-17"))
    token = otel_context.attach(brought)
    with agent("planner"):
        assert sent() == "tenant=acme"
        with agent("researcher"):
            assert sent() == "tenant=acme"
    assert dict(baggage.get_all()) == {ID: "case-17", "tenant": "acme"}
    with agent("planner"):
        pass
    otel_context.detach(token)
    assert not baggage.get_all()
    found = flow.sql("SELECT engagement_id = 'case-17', kind FROM turns")
    assert found == [(accepted, "remote" if accepted else "new")] * 2


def test_an_agent_that_ends_elsewhere_leaves_the_request_joined(
    flow_with: Callable[..., Flow],
) -> None:
    flow = flow_with(accept_baggage=True)
    token = otel_context.attach(baggage.set_baggage(ID, "case-17"))
    span = tracer().start_span("invoke_agent planner")
    assert sent() is None
    within = otel_context.attach(otel_context.set_value("mine", 1))
    span.end()
    otel_context.detach(within)
    with agent("planner"):
        assert sent() is None
    otel_context.detach(token)
    assert not baggage.get_all()
    assert flow.sql("SELECT engagement_id FROM turns") == [("case-17",)] * 2
