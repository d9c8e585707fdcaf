"""How the agents of somebody else's end, and what their spans may say without doing harm."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from feeds import captured, exported, rows
from foreign import agent, chat, kind, tracer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry import trace

import spanflow
from spanflow.capture.dialects.roles import called, role_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from conftest import Flow

OPENAI = "openinference.instrumentation.openai_agents"
ENDINGS = "SELECT path, status, error_type, error_message FROM steps ORDER BY started_at"
TURNS = (
    "SELECT outcome, status, e.errors, e.dropped_at"
    " FROM turns JOIN engagements e USING (engagement_id)"
)


def fail(message: str = "no way") -> None:
    raise LookupError(message)


def test_an_error_is_that_of_the_agent_it_came_from(flow: Flow) -> None:
    with pytest.raises(LookupError), agent("planner"), agent("researcher"):
        fail()
    assert flow.sql(ENDINGS) == [
        ("planner", "failed", "LookupError", "no way"),
        ("planner/researcher", "failed", "LookupError", "no way"),
    ]
    assert flow.sql(TURNS) == [("failed", "failed", 1, "planner/researcher")]
    assert flow.sql("SELECT s.path, e.kind, e.name FROM events e JOIN steps s USING (step_id)") == [
        ("planner/researcher", "error", "LookupError")
    ]


def test_told_by_another_feed_as_well_it_is_still_one_error(flow: Flow, tmp_path: Path) -> None:
    with pytest.raises(LookupError), agent("planner"), agent("researcher"):
        fail()
    spans = flow.spans
    told = [captured(flow), exported(tmp_path / "export.duckdb", [spans])]
    alone, together = (rows(tmp_path / "fresh", feeds) for feeds in (told[:1], told[::-1]))
    assert together == alone


def test_an_error_that_was_dealt_with_leaves_the_run_completed(flow: Flow) -> None:
    with agent("planner"):
        with pytest.raises(LookupError), agent("researcher"):
            fail()
        chat(1, 1)
    assert [row[:2] for row in flow.sql(ENDINGS)] == [
        ("planner", "completed"),
        ("planner/researcher", "failed"),
    ]
    assert flow.sql(TURNS) == [("completed", "completed", 1, None)]


def test_a_status_alone_tells_of_a_failure_of_no_known_type(flow: Flow) -> None:
    with agent("planner") as span:
        span.set_status(trace.StatusCode.ERROR, "it went wrong")
    assert flow.sql(ENDINGS) == [("planner", "failed", "_OTHER", "it went wrong")]
    assert flow.sql(TURNS) == [("failed", "failed", 1, "planner")]


def test_an_error_type_that_is_told_is_believed(flow: Flow) -> None:
    with agent("planner") as span:
        span.set_attribute("error.type", "rate_limit")
        span.set_status(trace.StatusCode.ERROR, "slow down")
    assert flow.sql(ENDINGS) == [("planner", "failed", "rate_limit", "slow down")]


def test_a_workflow_that_says_it_is_fine_fails_with_what_leaves_it(flow: Flow) -> None:
    with pytest.raises(LookupError):  # noqa: PT012 - as its instrumentor does it
        span = tracer(OPENAI).start_span(
            "Agent workflow", attributes={"openinference.span.kind": "AGENT"}
        )
        try:
            fail()
        finally:
            span.set_status(trace.StatusCode.OK)
            span.end()
    assert flow.sql("SELECT outcome FROM turns") == [("failed",)]
    assert flow.sql("SELECT kind, name FROM events") == [("error", "LookupError")]
    [turn] = flow.named("invoke_workflow Agent workflow")
    assert turn.status.status_code is trace.StatusCode.ERROR
    assert (turn.attributes or {})["error.type"] == "LookupError"


def test_a_run_while_an_error_is_dealt_with_is_not_failed_by_it(flow: Flow) -> None:
    try:
        fail()
    except LookupError:
        with kind("clean up", "CHAIN"), agent("cleaner"):
            pass
    assert [row[:2] for row in flow.sql(ENDINGS)] == [("cleaner", "completed")]
    assert flow.sql(TURNS) == [("completed", "completed", 0, None)]


def test_a_cancelled_agent_is_cancelled_although_its_span_says_nothing(flow: Flow) -> None:
    async def main() -> None:
        waiting = asyncio.Event()

        async def work() -> None:
            with agent("planner"), agent("researcher"):
                waiting.set()
                await asyncio.sleep(60)

        task = asyncio.create_task(work())
        await waiting.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(main())
    [span] = flow.named("invoke_agent planner")
    assert span.status.status_code is trace.StatusCode.UNSET
    assert [row[1] for row in flow.sql(ENDINGS)] == ["cancelled", "cancelled"]
    assert flow.sql(TURNS) == [("cancelled", "abandoned", 0, "planner/researcher")]


def test_a_span_that_tells_of_its_cancellation_is_believed(flow: Flow) -> None:
    with agent("planner") as span:
        span.record_exception(asyncio.CancelledError())
        span.set_status(trace.StatusCode.ERROR)
    assert flow.sql(ENDINGS) == [("planner", "cancelled", None, None)]
    assert flow.sql(TURNS) == [("cancelled", "abandoned", 0, "planner")]


def test_an_answer_that_is_left_is_left(flow: Flow) -> None:
    def pieces() -> Iterator[int]:
        with agent("narrator"):
            yield from range(9)

    async def more() -> AsyncIterator[int]:
        with agent("narrator"):
            for number in range(9):
                yield number

    stream = pieces()
    next(stream)
    stream.close()

    async def main() -> None:
        streamed = more()
        await anext(streamed)
        await streamed.aclose()  # type: ignore[attr-defined] - a generator

    asyncio.run(main())
    assert flow.sql("SELECT status FROM steps") == [("cancelled",)] * 2
    assert flow.sql("SELECT outcome FROM turns") == [("left",)] * 2


def test_an_agent_that_outlives_its_run_ends_when_its_span_does(flow: Flow) -> None:
    with agent("boss"):
        worker = tracer().start_span("invoke_agent worker")
    assert flow.sql("SELECT path, status FROM steps ORDER BY path") == [
        ("boss", "completed"),
        ("boss/worker", "cancelled"),
    ]
    worker.end()
    assert flow.sql("SELECT path, status FROM steps ORDER BY path") == [
        ("boss", "completed"),
        ("boss/worker", "completed"),
    ]
    assert flow.one("SELECT outcome FROM turns") == "completed"


def test_a_name_that_is_told_before_the_end_is_the_name(
    flow_with: Callable[..., Flow], tmp_path: Path
) -> None:
    flow = flow_with(goals=["Writer"])
    with agent("boss"), kind("Writer.agent", "AGENT") as span:
        chat(1, 2)
        span.set_attribute("gen_ai.agent.name", "Writer")
    with kind("crew.kickoff", "CHAIN") as span:
        span.set_attribute("gen_ai.workflow.name", "Trip")
    assert flow.sql("SELECT name, goal FROM engagements ORDER BY started_at") == [
        ("boss", "Writer"),
        ("Trip", None),
    ]
    named = [("boss", "boss", None), ("boss/Writer", "Writer", "Writer")]
    assert flow.sql("SELECT path, agent_name, goal FROM steps ORDER BY path") == named
    assert flow.sql("SELECT step_name FROM llm_calls") == [("Writer",)]
    export = rows(tmp_path / "fresh", [exported(tmp_path / "export.duckdb", [flow.spans])])
    assert {row[1] for row in export["engagements"]} == {"boss", "Trip"}
    assert {row[4:6] for row in export["steps"]} == {("boss", "boss"), ("Writer", "boss/Writer")}


def test_a_run_goes_on_after_capture_is_switched_off(flow: Flow) -> None:
    with agent("planner"):
        spanflow.uninstrument()
    assert flow.sql("SELECT outcome FROM turns") == [("completed",)]
    with agent("later"):
        pass
    assert flow.one("SELECT count(*) FROM turns") == 1


NASTY = [
    "",
    " ",
    "エンゲージ🎌",
    "a\x00b",
    "a/b",
    "x" * 5_000,
    "\ud800",
    "'; DROP TABLE records; --",
]


@pytest.mark.parametrize("name", NASTY)
def test_any_name_will_do(flow: Flow, name: str) -> None:
    with kind(name, "AGENT"):
        pass
    assert flow.one("SELECT count(*) FROM steps WHERE status = 'completed' AND path != ''") == 1
    assert flow.one("SELECT count(*) FROM engagements WHERE name != ''") == 1


VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.lists(st.text())
)
KEYS = st.sampled_from(
    [
        "gen_ai.operation.name",
        "openinference.span.kind",
        "gen_ai.agent.name",
        "agent.name",
        "gen_ai.workflow.name",
        "user.id",
        "session.id",
    ]
)


@given(name=st.text(), attributes=st.dictionaries(KEYS, VALUES))
def test_whatever_a_span_says_of_itself_is_read(name: str, attributes: dict[str, Any]) -> None:
    assert role_of(name, attributes) in {None, "agent", "workflow"}
    assert called("agent", name, attributes)


# Many in each ledger: it is the ingest that takes time.
@settings(max_examples=5, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    several=st.lists(
        st.dictionaries(KEYS, VALUES.filter(lambda value: value is not None)),
        min_size=8,
        max_size=16,
    )
)
def test_malformed_attributes_harm_nobody(flow: Flow, several: list[dict[str, Any]]) -> None:
    for attributes in several:
        with agent("planner"), tracer().start_as_current_span("odd", attributes=attributes):
            chat(1, 1)
    assert flow.one("SELECT count(*) FROM engagements WHERE status != 'completed'") == 0
    assert flow.one("SELECT count(*) FROM steps WHERE status != 'completed'") == 0
    assert flow.one("SELECT count(*) FROM llm_calls WHERE step_id IS NULL") == 0
