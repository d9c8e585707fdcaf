"""What somebody else's agents become: engagements, turns and steps, in the right places."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from typing import TYPE_CHECKING, Any

import pytest
from feeds import captured, exported, filed, rows
from foreign import agent, chat, kind, tracer
from graphs import State, calling, chain, llm
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

import spanflow
from spanflow.capture import adopted
from spanflow.capture.processor import JourneyProcessor
from spanflow.setup import _Process

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Flow

STEPS = "SELECT path, agent_name, status, llm_calls, total_tokens FROM steps ORDER BY started_at"


def in_node(body: Callable[[], Any]) -> Any:
    def node(state: State) -> State:
        body()
        return {"log": ["x"]}

    return chain("a", a=node)


def test_the_outermost_agent_is_an_engagement_a_turn_and_a_step(flow: Flow) -> None:
    who = {"user.id": "u1", "session.id": "s1", "gen_ai.conversation.id": "c1"}
    with agent("planner", **who):
        chat(20, 5)
    [root], [turn] = flow.named("invoke_agent planner"), flow.named("invoke_workflow planner")
    assert root.context is not None
    assert turn.parent is not None
    assert turn.parent.span_id == root.context.span_id
    assert (turn.start_time, turn.end_time) == (root.start_time, root.end_time)
    assert flow.sql(
        "SELECT name, status, turns, steps, llm_calls, total_tokens, user_id, session_id,"
        " conversation_id FROM engagements"
    ) == [("planner", "completed", 1, 1, 1, 25, "u1", "s1", "c1")]
    assert flow.sql(STEPS) == [("planner", "planner", "completed", 1, 25)]
    assert flow.sql("SELECT span_id, step_id FROM steps") == [(f"{root.context.span_id:016x}",) * 2]
    assert flow.sql("SELECT kind, outcome, graph_version FROM turns") == [
        ("new", "completed", None)
    ]
    assert (turn.attributes or {})["spanflow.usage.total_tokens"] == 25


def test_only_our_names_are_added_to_their_span(flow: Flow) -> None:
    with agent("planner", mine=1) as span:
        span.set_attribute("late", 2)
        spanflow.log("noticed", rooms=3)
    [root] = flow.named("invoke_agent planner")
    theirs = {k: v for k, v in (root.attributes or {}).items() if not k.startswith("spanflow.")}
    assert theirs == {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.agent.name": "planner",
        "mine": 1,
        "late": 2,
    }
    assert not root.events
    assert flow.sql("SELECT name, payload, step_id IS NOT NULL FROM events") == [
        ("noticed", '{"rooms":3}', True)
    ]


def test_agents_inside_agents_nest(flow: Flow) -> None:
    with agent("planner"):
        chat(1, 0)
        with kind("research", "TOOL"), agent("researcher"):
            chat(2, 0)
            with kind("crew", "CHAIN"), kind("Reader.execute", "AGENT", **{"agent.name": "reader"}):
                chat(4, 0)
        with agent("researcher"):
            chat(8, 0)
    assert flow.sql(STEPS) == [
        ("planner", "planner", "completed", 4, 15),
        ("planner/researcher", "researcher", "completed", 2, 6),
        ("planner/researcher/reader", "reader", "completed", 1, 4),
        ("planner/researcher", "researcher", "completed", 1, 8),
    ]
    assert flow.sql("SELECT visit FROM steps WHERE name = 'researcher' ORDER BY started_at") == [
        (1,),
        (2,),
    ]
    assert flow.sql("SELECT step_name, count(*) FROM tool_calls GROUP BY ALL") == [("planner", 1)]
    assert flow.sql("SELECT count(*), sum(total_tokens)::INT FROM engagements") == [(1, 15)]


def test_agents_side_by_side_never_mix(flow: Flow) -> None:
    async def one(number: int) -> None:
        with agent(f"outer {number}"):
            await asyncio.sleep(0)
            with agent(f"inner {number}"):
                await asyncio.sleep(0)
                chat(number, 0)

    async def all_of_them() -> None:
        await asyncio.gather(*map(one, range(1, 101)))

    asyncio.run(all_of_them())
    assert flow.one("SELECT count(*) FROM engagements") == 100
    wrong = "SELECT count(*) FROM steps JOIN engagements e USING (engagement_id) WHERE path NOT IN "
    assert flow.one(wrong + "(e.name, e.name || '/' || replace(e.name, 'outer', 'inner'))") == 0
    assert flow.one(
        "SELECT count(*) FROM llm_calls WHERE step_name != 'inner ' || input_tokens"
    ) == 0  # fmt: skip


def test_agents_of_one_turn_in_threads(flow: Flow) -> None:
    with agent("boss"):
        around = otel_context.get_current()

        def work(number: int) -> None:
            otel_context.attach(around)
            with agent(f"w{number}"):
                chat(number, 0)
                spanflow.log("done", number=number)

        threads = [
            threading.Thread(target=contextvars.Context().run, args=(work, number))
            for number in range(1, 9)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(flow.sql("SELECT path, total_tokens FROM steps")) == sorted(
        [("boss", 36), *((f"boss/w{number}", number) for number in range(1, 9))]
    )
    assert flow.one(
        "SELECT count(*) FROM events JOIN steps USING (step_id)"
        " WHERE steps.name = 'w' || json_extract(payload, '$.number')"
    ) == 8  # fmt: skip


def test_inside_a_node_an_agent_is_a_step_of_its(flow: Flow) -> None:
    def body() -> None:
        llm(1, 0).invoke("before")
        with agent("helper"):
            chat(2, 0)
            llm(4, 0).invoke("x")
            with kind("look", "TOOL"):
                llm(8, 0).invoke("y")
        llm(16, 0).invoke("after")

    in_node(body).invoke({"log": []})
    assert flow.one("SELECT count(*) FROM turns") == 1
    assert flow.sql(STEPS) == [
        ("a", None, "completed", 5, 31),
        ("a/helper", "helper", "completed", 3, 14),
    ]
    [span] = flow.named("step a")
    assert (span.attributes or {})["spanflow.usage.total_tokens"] == 31


def test_a_graph_inside_an_agent_runs_in_its_step(flow: Flow) -> None:
    with agent("planner"):
        chain("b", b=calling(llm(3, 4))).invoke({"log": []})
    assert flow.one("SELECT count(*) FROM turns") == 1
    assert [row[0] for row in flow.sql(STEPS)] == ["planner", "planner/b"]
    assert flow.sql("SELECT step_name, total_tokens FROM llm_calls") == [("b", 7)]


def test_runs_under_one_request_are_engagements_of_their_own(flow: Flow) -> None:
    with tracer("web").start_as_current_span("POST /ask"):
        with agent("one"):
            pass
        with agent("two"):
            pass
        chain("g").invoke({"log": []})
    assert flow.one("SELECT count(*) FROM engagements") == 3
    assert flow.one("SELECT count(DISTINCT trace_id) FROM turns") == 1


def test_a_workflow_outside_opens_a_turn_and_inside_is_a_span(flow: Flow) -> None:
    with kind("Crew.kickoff", "CHAIN"):
        chat(1, 0)
        with kind("task", "CHAIN"), kind("Writer._execute_core", "AGENT"):
            chat(2, 0)
    assert flow.sql("SELECT name, status, total_tokens FROM engagements") == [
        ("Crew", "completed", 3)
    ]
    assert [row[0] for row in flow.sql(STEPS)] == ["Writer"]
    assert flow.sql("SELECT name, step_id FROM spans WHERE kind = 'span' ORDER BY name") == [
        ("Crew.kickoff", None),
        ("task", None),
    ]


def test_the_conventions_names_are_known_without_attributes(flow: Flow) -> None:
    with (
        tracer().start_as_current_span("invoke_workflow trip"),
        tracer().start_as_current_span("invoke_agent planner"),
    ):
        pass
    assert flow.sql("SELECT name FROM engagements") == [("trip",)]
    assert [row[0] for row in flow.sql(STEPS)] == ["planner"]


def test_one_agent_told_by_two_instrumentors_is_one_step(flow: Flow) -> None:
    with agent("planner"), kind("planner", "AGENT", scope="openinference.their"):
        chat(1, 1)
        with agent("planner"):  # and one that asks itself is two
            pass
    assert [row[0] for row in flow.sql(STEPS)] == ["planner", "planner/planner"]


@pytest.mark.parametrize(
    "scope",
    ["openinference.instrumentation.langchain", "opentelemetry.instrumentation.genai.langchain"],
)
def test_langchains_chains_are_no_workflows_and_in_graphs_ours_are_told(
    flow: Flow, scope: str
) -> None:
    def body() -> None:
        with agent("alice", scope=scope), kind("chain", "CHAIN", scope=scope):
            pass

    with kind("RunnableSequence", "CHAIN", scope=scope):
        in_node(body).invoke({"log": []})
    assert [row[0] for row in flow.sql(STEPS)] == ["a"]
    with agent("bob", scope=scope):
        body()
    assert [row[0] for row in flow.sql(STEPS)] == ["a", "bob", "bob/alice"]


def test_the_outermost_agent_of_openais_sdk_is_the_workflow(flow: Flow) -> None:
    scope = "openinference.instrumentation.openai_agents"
    with kind("Agent workflow", "AGENT", scope=scope), kind("triage", "AGENT", scope=scope):
        pass
    assert flow.sql("SELECT name FROM engagements") == [("Agent workflow",)]
    assert [row[0] for row in flow.sql(STEPS)] == ["triage"]


@pytest.mark.parametrize("scope", ["langfuse-sdk", "langsmith", "litellm"])
def test_spans_made_after_the_fact_are_left_alone(flow: Flow, scope: str) -> None:
    with agent("ghost", scope=scope):
        pass
    assert captured(flow) == b""


def test_a_run_that_is_left_out_adopts_nobody(flow: Flow) -> None:
    def body() -> None:
        with agent("helper"):
            chat(1, 1)

    in_node(body).invoke({"log": []}, {"metadata": {"spanflow_enabled": False}})
    assert flow.one("SELECT count(*) FROM records WHERE kind IN ('turn', 'step')") == 0


def test_what_an_agent_believes_was_spent_counts_nowhere(flow: Flow) -> None:
    sums = {"gen_ai.usage.input_tokens": 70, "gen_ai.usage.output_tokens": 7}
    with agent("planner", **sums), agent("researcher", **sums):
        chat(70, 7)
    assert flow.sql("SELECT total_tokens, llm_calls FROM engagements") == [(77, 1)]
    assert flow.sql("FROM usage_conflicts") == []


def test_goals_name_agents_and_make_no_other_abandoned(
    flow_with: Callable[..., Flow], caplog: pytest.LogCaptureFixture
) -> None:
    flow = flow_with(goals=["writer"])
    with agent("planner"), agent("writer"):
        pass
    with agent("planner"):
        pass
    assert flow.sql("SELECT goal, status FROM engagements ORDER BY started_at") == [
        ("writer", "completed"),
        (None, "completed"),
    ]
    assert not caplog.records


def test_what_is_told_late_of_the_user_is_known_as_well(flow: Flow) -> None:
    with agent("planner", **{"session.id": "first"}) as span:
        span.set_attributes({"user.id": "u1", "session.id": "later"})
    assert flow.sql("SELECT user_id, session_id FROM engagements") == [("u1", "first")]
    [turn] = flow.named("invoke_workflow planner")
    assert (turn.attributes or {})["user.id"] == "u1"


def test_unsampled_spans_reach_nobody(flow: Flow) -> None:
    ours = JourneyProcessor()
    ours.runtime = _Process.runtime
    provider = TracerProvider(sampler=ALWAYS_OFF)
    provider.add_span_processor(ours)
    with provider.get_tracer("their.agents").start_as_current_span("invoke_agent planner"):
        pass
    assert captured(flow) == b""


def test_agents_that_never_end_do_not_pile_up(flow: Flow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adopted, "_MOST_HELD", 10)
    ours = JourneyProcessor()
    ours.runtime = _Process.runtime
    provider = TracerProvider()
    provider.add_span_processor(ours)
    made = provider.get_tracer("their.agents")
    forgotten = [made.start_span(f"invoke_agent {n}", otel_context.Context()) for n in range(35)]
    assert len(ours._adoptions._held) == 10  # noqa: SLF001 - nothing else tells
    for span in forgotten:
        span.end()
    assert flow.one("SELECT count(*) FROM turns WHERE outcome = 'completed'") == 10
    assert flow.one("SELECT count(*) FROM turns WHERE outcome IS NULL") == 25


def test_what_was_said_is_not_kept_of_spans_that_are_no_calls(flow: Flow) -> None:
    said = {
        "crew_tasks": "secret",
        "crew_inputs": "secret",
        "final_result": "secret",
        "pydantic_ai.all_messages": "secret",
        "output.value": "secret",
    }
    with kind("trip.kickoff", "CHAIN", **said), agent("a", **said), kind("t", "CHAIN", **said):
        pass
    assert not [row for row in flow.sql("FROM records") if "secret" in str(row)]


def run_journey() -> None:
    """Everything that the spans themselves tell."""
    with agent("planner", **{"user.id": "u1", "gen_ai.conversation.id": "c1"}):
        chat(1, 2)
        with kind("research", "TOOL"), agent("researcher") as span:
            span.add_event("noticed", {"rooms": 3})
            chat(3, 4)
        with pytest.raises(ZeroDivisionError), agent("clumsy"):
            1 / 0  # noqa: B018 - what fails
        with agent("vague") as span:
            span.set_status(trace.StatusCode.ERROR, "it went wrong")
    with kind("crew", "CHAIN"), kind("Writer", "AGENT"):
        pass

    def body() -> None:
        with agent("helper"):
            chat(5, 6)

    in_node(body).invoke({"log": []})


def test_a_journey_is_told_by_all(flow: Flow, tmp_path: Path) -> None:
    run_journey()
    told = [captured(flow)]
    told.append(exported(tmp_path / "export.duckdb", [flow.spans]))
    told.append(filed(tmp_path / "file.duckdb", [flow.spans]))
    first, *others = (rows(tmp_path / "fresh", [feed]) for feed in told)
    assert len(first["steps"]) == 7
    for other in others:
        for view, wanted in first.items():
            assert other[view] == wanted, view
    together = rows(tmp_path / "fresh", told)
    assert together == first
