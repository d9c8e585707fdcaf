"""Steps of plain Python and inside graphs: where they stand, and what follows."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from graphs import FakeLLM, State, chain, llm
from langchain.agents import create_agent
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.types import Command

import spanflow
from spanflow import guard

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Flow


def test_steps_nest_and_follow_each_other(flow: Flow) -> None:
    with spanflow.engagement("x", id="1"):
        with spanflow.step("a", tools=["find", "検索🔍"]) as a, spanflow.step("b") as b:
            pass
        for _ in range(3):
            with spanflow.step("loop"):
                spanflow.llm_call("m", input_tokens=5, output_tokens=5)
    assert flow.sql(
        "SELECT path, name, visit, parent_step_id, tools_available FROM steps ORDER BY started_at"
    ) == [
        ("a", "a", 1, None, ["find", "検索🔍"]),
        ("a/b", "b", 1, a.step_id, None),
        ("loop", "loop", 1, None, None),
        ("loop", "loop", 2, None, None),
        ("loop", "loop", 3, None, None),
    ]
    assert flow.tree() == [
        [
            "invoke_workflow x",
            [
                ["step a", ["step b"]],
                ["step loop", ["chat m"]],
                ["step loop", ["chat m"]],
                ["step loop", ["chat m"]],
            ],
        ]
    ]
    assert b.step_id != a.step_id
    assert flow.sql("SELECT from_step, to_step FROM transitions ORDER BY occurred_at") == [
        ("a", "loop"),
        ("loop", "loop"),
        ("loop", "loop"),
    ]
    assert flow.one("SELECT total_tokens FROM engagements") == 30


def test_a_step_outside_everything_is_an_engagement_of_its_own(flow: Flow) -> None:
    with spanflow.step("alone") as first:
        spanflow.log("inside")
    with spanflow.step("alone"):
        pass
    assert (
        flow.sql("SELECT name, status, turns, steps FROM engagements")
        == [("alone", "completed", 1, 1)] * 2
    )
    assert flow.one("SELECT step_id FROM events WHERE kind = 'log'") == first.step_id


def test_a_failed_one_brings_its_engagement_down(flow: Flow) -> None:
    with pytest.raises(ValueError, match="boom"), spanflow.step("alone"):
        raise ValueError("boom")  # noqa: EM101
    assert flow.sql("SELECT name, status, dropped_at, errors FROM engagements") == [
        ("alone", "failed", "alone", 1)
    ]


def test_an_error_that_is_caught_outside_a_step_fails_the_step_alone(flow: Flow) -> None:
    with spanflow.engagement("x", id="1"):
        with pytest.raises(OSError, match="down"), spanflow.step("outer"), spanflow.step("inner"):
            raise OSError("down")  # noqa: EM101
        with spanflow.step("next"):
            pass
    assert flow.steps() == [
        ("outer", "failed"),
        ("outer/inner", "failed"),
        ("next", "completed"),
    ]
    assert flow.sql("SELECT status, dropped_at, errors FROM engagements") == [
        ("completed", None, 1)
    ]
    assert flow.sql("SELECT DISTINCT error_type FROM steps WHERE status = 'failed'") == [
        ("OSError",)
    ]


def test_steps_side_by_side(flow: Flow) -> None:
    async def work(name: str, pause_s: float) -> None:
        async with spanflow.step(name):
            await asyncio.sleep(pause_s)
            spanflow.llm_call("m", input_tokens=10, output_tokens=1)

    async def main() -> None:
        async with spanflow.engagement("x", id="1"):
            async with spanflow.step("plan"):
                pass
            await asyncio.gather(work("b", 0.2), work("c", 0.05))
            async with spanflow.step("join"):
                pass

    asyncio.run(main())
    assert flow.sql(
        "SELECT b.started_at < c.ended_at AND c.started_at < b.ended_at, b.duration_ms >= 200,"
        " c.duration_ms < b.duration_ms FROM steps b, steps c WHERE b.path = 'b' AND c.path = 'c'"
    ) == [(True, True, True)]
    assert flow.sql("SELECT DISTINCT parent_step_id, total_tokens FROM steps ORDER BY ALL") == [
        (None, 0),
        (None, 11),
    ]
    assert set(flow.sql("SELECT from_step, to_step FROM transitions")) == {
        ("plan", "b"),
        ("plan", "c"),
        ("b", "join"),
        ("c", "join"),
    }


def test_a_pool_of_threads_that_is_handed_the_context(flow: Flow) -> None:
    def work(number: int) -> None:
        with spanflow.step("worker"):
            spanflow.llm_call("m", input_tokens=number, output_tokens=0)

    with (
        spanflow.engagement("x", id="1"),
        spanflow.step("fan out"),
        ThreadPoolExecutor(8) as pool,
    ):
        for number in range(40):
            pool.submit(contextvars.copy_context().run, work, number)
    assert flow.sql(
        "SELECT path, count(*), count(DISTINCT visit), sum(total_tokens) FROM steps"
        " GROUP BY path ORDER BY path"
    ) == [("fan out", 1, 1, 780), ("fan out/worker", 40, 40, 780)]
    assert flow.one("SELECT total_tokens FROM engagements") == 780


def test_fifty_engagements_at_once(flow: Flow) -> None:
    async def one(number: int) -> None:
        async with spanflow.engagement("x", id=f"e{number}"):
            for name in ("a", "b"):
                async with spanflow.step(name), spanflow.llm_call("m") as call:
                    await asyncio.sleep(0.001 * (number % 7))
                    call.set_usage(input_tokens=number, output_tokens=1)

    async def main() -> None:
        await asyncio.gather(*(one(number) for number in range(50)))

    asyncio.run(main())
    assert flow.sql(
        "SELECT engagement_id, steps, total_tokens, status FROM engagements ORDER BY ALL"
    ) == sorted((f"e{number}", 2, 2 * number + 2, "completed") for number in range(50))


def test_a_global_step_switches_intent(flow: Flow) -> None:
    with spanflow.engagement("x", id="1"):
        with spanflow.step("greet"):
            pass
        with spanflow.step("escalate", is_global=True):
            pass
    assert flow.sql("SELECT path, is_global FROM steps ORDER BY started_at") == [
        ("greet", False),
        ("escalate", True),
    ]
    assert flow.sql("SELECT name, payload FROM events WHERE kind = 'intent_switch'") == [
        ("intent_switch", '{"from":"greet","to":"escalate"}')
    ]


def test_settings_name_global_steps_and_goals_too(flow_with: Callable[..., Flow]) -> None:
    flow = flow_with(goals=["submitted"], global_steps=["escalate"])
    names = ("outer", "escalate", "submitted")
    with spanflow.engagement("x", id="1"), contextlib.ExitStack() as stack:
        for name in names:
            stack.enter_context(spanflow.step(name))
    with spanflow.engagement("x", id="2"), spanflow.step("look"):
        pass
    assert flow.sql(
        "SELECT engagement_id, status, goal, dropped_at FROM engagements ORDER BY 1"
    ) == [
        ("1", "completed", "submitted", None),
        ("2", "abandoned", None, "look"),
    ]
    assert flow.one("SELECT is_global FROM steps WHERE name = 'escalate'") is True


def test_a_goal_that_failed_is_not_reached(flow: Flow) -> None:
    with (
        pytest.raises(ValueError, match="x"),
        spanflow.engagement("x", id="1", goals=["pay"]),
        spanflow.step("pay"),
    ):
        raise ValueError("x")  # noqa: EM101
    assert flow.sql("SELECT status, goal, dropped_at FROM engagements") == [("failed", None, "pay")]


def test_inside_a_node_a_step_is_a_part_of_the_nodes(flow: Flow) -> None:
    def node(state: State) -> State:
        with spanflow.step("look", tools=["db"]), spanflow.step("deeper"):
            llm(3, 4).invoke("x")
            spanflow.log("here")
        return {"log": ["x"]}

    builder = StateGraph(State)
    builder.add_node("sub", chain("a", "b", a=node))
    builder.add_edge(START, "sub")
    builder.compile().invoke({"log": []})
    assert flow.sql("SELECT path, total_tokens FROM steps ORDER BY started_at") == [
        ("sub", 7),
        ("sub/a", 7),
        ("sub/a/look", 7),
        ("sub/a/look/deeper", 7),
        ("sub/b", 0),
    ]
    assert flow.sql("SELECT turns, steps, total_tokens FROM engagements") == [(1, 5, 7)]
    assert flow.sql("SELECT from_step, to_step FROM transitions ORDER BY occurred_at") == [
        ("sub/a", "sub/b")
    ]


def test_another_engagement_inside_a_node_has_its_own_calls(flow: Flow) -> None:
    def node(state: State) -> State:
        with spanflow.engagement("other", id="other"):
            llm(1, 1).invoke("of its turn")
            with spanflow.step("own"):
                llm(2, 2).invoke("of its step")
        with spanflow.engagement("third", id="third"):
            (RunnableLambda(lambda text: text) | llm(4, 4)).invoke("through a chain")
        llm(8, 8).invoke("of the node")
        return {"log": ["x"]}

    chain("a", a=node).invoke({"log": []}, {"metadata": {"spanflow_engagement_id": "graph"}})
    assert flow.sql("SELECT engagement_id, steps, total_tokens FROM engagements ORDER BY 1") == [
        ("graph", 1, 16),
        ("other", 1, 6),
        ("third", 0, 8),
    ]
    assert flow.sql("SELECT path, total_tokens FROM steps ORDER BY started_at") == [
        ("a", 16),
        ("own", 4),
    ]


def test_inside_a_tool_of_an_agent(flow: Flow) -> None:
    @tool
    def lookup(area: str) -> str:
        """Look an area up."""
        with spanflow.step("query") as s:
            spanflow.log("rows", n=3)
        spanflow.goal("found")
        return s.step_id or ""

    call = {"name": "lookup", "args": {"area": "Ueno"}, "id": "1"}
    model = FakeLLM(replies=[AIMessage("", tool_calls=[call]), AIMessage("done")])
    create_agent(model, [lookup]).invoke({"messages": [("user", "hello")]})
    assert [path for path, _ in flow.steps()] == ["model", "tools", "tools/query", "model"]
    assert flow.sql("SELECT status, goal FROM engagements") == [("completed", "found")]
    [step] = flow.named("step query")
    [ran] = flow.named("execute_tool lookup")
    assert step.parent is not None
    assert step.parent.span_id == ran.context.span_id


def test_a_command_that_goes_on_elsewhere_is_no_failure(flow: Flow) -> None:
    def inner(state: State) -> Any:
        with spanflow.step("decides"):
            from langgraph.errors import ParentCommand

            raise ParentCommand(Command(goto="end", graph=Command.PARENT))

    sub = chain("inner", inner=inner)
    builder = StateGraph(State)
    builder.add_node("sub", sub, destinations=("end",))
    builder.add_node("end", lambda state: {"log": ["end"]})
    builder.add_edge(START, "sub")
    builder.compile().invoke({"log": []})
    assert ("sub/inner/decides", "completed") in flow.steps()
    assert flow.sql("SELECT status, errors FROM engagements") == [("completed", 0)]


def test_a_node_that_is_tried_again(flow: Flow) -> None:
    """Each attempt's inner step is one of its own; the node's is one with two attempts."""
    from langgraph.types import RetryPolicy

    tries: list[int] = []

    def node(state: State) -> State:
        tries.append(1)
        with spanflow.step("part"), spanflow.llm_call("m") as call:
            call.set_usage(input_tokens=5, output_tokens=5)
            if len(tries) == 1:
                raise OSError
        return {"log": []}

    builder = StateGraph(State)
    patience = RetryPolicy(initial_interval=0.001, retry_on=OSError)
    builder.add_node("flaky", node, retry_policy=patience)
    builder.add_edge(START, "flaky")
    builder.compile(checkpointer=InMemorySaver()).invoke(
        {"log": []}, {"configurable": {"thread_id": "t"}}
    )
    assert flow.sql("SELECT path, status, attempts FROM steps ORDER BY started_at") == [
        ("flaky", "completed", 2),
        ("flaky/part", "failed", 1),
        ("flaky/part", "completed", 1),
    ]
    assert flow.sql("SELECT total_tokens, retried_tokens FROM engagements") == [(20, 10)]


@pytest.mark.parametrize("unknown", [{"step_id": "0" * 16}, {"engagement_id": "nobody"}])
def test_an_unknown_place_is_counted_and_nothing_else_changes(
    flow: Flow, unknown: dict[str, str]
) -> None:
    with spanflow.engagement("x", id="1"), spanflow.step("a"):
        with spanflow.step("lost", **unknown) as lost:
            spanflow.log("lands where the code is")
        spanflow.log("lost", **unknown)
        spanflow.error(ValueError("lost"), **unknown)
        spanflow.extraction("Lost", {}, **unknown)
        spanflow.llm_call("lost", input_tokens=9, **unknown)
        spanflow.tool_call("lost", result=1, **unknown)
        spanflow.pause("lost", **unknown)
        if "engagement_id" in unknown:
            spanflow.goal("lost", **unknown)
            spanflow.gave_up("lost", **unknown)
    assert lost.step_id is None
    assert flow.sql("SELECT path, status FROM steps") == [("a", "completed")]
    assert flow.sql("SELECT name FROM events") == [("lands where the code is",)]
    assert flow.sql(
        "SELECT status, goal, total_tokens, waiting_ms, tool_calls FROM engagements"
    ) == [("completed", None, 0, 0, 0)]
    assert flow.sql("FROM llm_calls") == []
    sites = ["step", "log", "error", "extraction", "llm_call", "tool_call", "pause"]
    sites += ["goal", "gave_up"] if "engagement_id" in unknown else []
    assert guard.counts() == {f"api.{site}": 1 for site in sites}


def test_an_ended_place_is_unknown(flow: Flow) -> None:
    with spanflow.engagement("x", id="gone") as e, spanflow.step("a") as a:
        pass
    spanflow.log("late", step_id=a.step_id)
    spanflow.log("late", engagement_id=e.engagement_id)
    with spanflow.step("late", engagement_id=e.engagement_id):
        pass
    assert guard.counts() == {"api.log": 2, "api.step": 1}
    assert flow.sql("SELECT status, steps FROM engagements") == [("completed", 1)]
    assert flow.sql("FROM events") == []
