"""Agents that an app names: what works for them carries their name, however they run."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from graphs import State, calling, chain, llm
from langgraph.graph import START, StateGraph

import spanflow

if TYPE_CHECKING:
    from conftest import Flow

CALLS = "SELECT model, agent_name FROM llm_calls ORDER BY started_at"


def call(model: str) -> None:
    spanflow.llm_call(model, input_tokens=1, output_tokens=1)


def test_an_agent_is_a_span_that_names_what_is_inside(flow: Flow) -> None:
    with spanflow.engagement("trip", id="1"), spanflow.step("plan"):
        with spanflow.agent("planner", role="plans") as planner:
            call("m1")
            with spanflow.agent("検索🔍") as inner:
                call("m2")
                with spanflow.step("search"):
                    spanflow.tool_call("look_up", result=1)
            call("m3")
        call("m4")
    assert (planner.name, planner.parent) == ("planner", None)
    assert (inner.name, inner.parent) == ("検索🔍", "planner")
    assert flow.sql(CALLS) == [("m1", "planner"), ("m2", "検索🔍"), ("m3", "planner"), ("m4", None)]
    assert flow.sql("SELECT path, agent_name FROM steps ORDER BY started_at") == [
        ("plan", None),
        ("plan/search", "検索🔍"),
    ]
    assert flow.one("SELECT agent_name FROM tool_calls") == "検索🔍"
    assert flow.tree() == [
        [
            "invoke_workflow trip",
            [
                [
                    "step plan",
                    [
                        [
                            "invoke_agent planner",
                            [
                                "chat m1",
                                [
                                    "invoke_agent 検索🔍",
                                    ["chat m2", ["step search", ["execute_tool look_up"]]],
                                ],
                                "chat m3",
                            ],
                        ],
                        "chat m4",
                    ],
                ]
            ],
        ]
    ]
    for span in flow.spans:
        attributes = span.attributes or {}
        wanted = {"m1": "planner", "m2": "検索🔍", "m3": "planner"}.get(
            str(attributes.get("gen_ai.request.model"))
        )
        if span.name.startswith("chat"):
            assert attributes.get("gen_ai.agent.name") == wanted
    [outer] = flow.named("invoke_agent planner")
    assert outer.attributes is not None
    assert outer.attributes["gen_ai.operation.name"] == "invoke_agent"
    assert outer.attributes["gen_ai.agent.name"] == "planner"
    assert outer.attributes["spanflow.agent.role"] == "plans"
    [within] = flow.named("invoke_agent 検索🔍")
    assert (within.attributes or {})["spanflow.agent.parent"] == "planner"


def test_it_is_no_step_and_no_call(flow: Flow) -> None:
    with spanflow.engagement("x", id="1"), spanflow.agent("planner"):
        call("m")
    assert flow.sql("SELECT steps, llm_calls, total_tokens FROM engagements") == [(0, 1, 2)]
    assert flow.sql("SELECT name, agent_name, status FROM records WHERE kind = 'span'") == [
        ("invoke_agent planner", "planner", "ok")
    ]


def test_outside_everything_it_is_an_engagement_of_its_own(flow: Flow) -> None:
    with spanflow.agent("planner"), spanflow.step("a"):
        call("m")
    assert flow.sql("SELECT name, status, turns, steps, total_tokens FROM engagements") == [
        ("planner", "completed", 1, 1, 2)
    ]
    assert flow.sql(CALLS) == [("m", "planner")]


def test_an_agent_that_fails(flow: Flow) -> None:
    with pytest.raises(ValueError, match="boom"), spanflow.agent("planner"):
        raise ValueError("boom")  # noqa: EM101
    [span] = flow.named("invoke_agent planner")
    assert (span.attributes or {})["error.type"] == "ValueError"
    assert span.status.status_code.name == "ERROR"
    assert flow.sql("SELECT status, error_type, error_message FROM spans WHERE kind = 'span'") == [
        ("error", "ValueError", "boom")
    ]
    assert flow.sql("SELECT status, errors FROM engagements") == [("failed", 1)]


async def test_fifty_at_once_never_mix(flow: Flow) -> None:
    async def work(number: int) -> None:
        async with spanflow.agent(f"a{number}", role="worker") as outer:
            await asyncio.sleep(0.001 * (number % 7))
            async with spanflow.step(f"s{number}"):
                async with spanflow.agent(f"b{number}") as inner:
                    await asyncio.sleep(0.001 * (number % 5))
                    call(f"inner{number}")
                    await asyncio.to_thread(call, f"thread{number}")
                call(f"step{number}")
            call(f"outer{number}")
        assert (outer.parent, inner.parent) == (None, f"a{number}")

    async with spanflow.engagement("crowd", id="1"):
        await asyncio.gather(*(work(number) for number in range(50)))
    assert dict(flow.sql("SELECT model, agent_name FROM llm_calls")) == {
        f"{where}{number}": f"{'b' if where in ('inner', 'thread') else 'a'}{number}"
        for number in range(50)
        for where in ("inner", "thread", "step", "outer")
    }
    assert dict(flow.sql("SELECT name, agent_name FROM steps")) == {
        f"s{number}": f"a{number}" for number in range(50)
    }
    for span in flow.spans:
        if span.name.startswith("chat "):
            number = "".join(filter(str.isdigit, span.name))
            assert str((span.attributes or {})["gen_ai.agent.name"])[1:] == number


def test_threads_of_a_pool(flow: Flow) -> None:
    def work(number: int) -> None:
        with spanflow.agent(f"a{number}") as one:
            call(f"m{number}")
        assert one.parent == "boss"

    with (
        spanflow.engagement("crowd", id="1"),
        spanflow.agent("boss"),
        ThreadPoolExecutor(8) as pool,
    ):
        for done in [
            pool.submit(contextvars.copy_context().run, work, number) for number in range(40)
        ]:
            done.result()
    assert dict(flow.sql("SELECT model, agent_name FROM llm_calls")) == {
        f"m{number}": f"a{number}" for number in range(40)
    }


def test_a_thread_that_is_handed_opentelemetrys_context_alone(flow: Flow) -> None:
    from opentelemetry import context

    def work(handed: Any) -> None:
        token = context.attach(handed)
        call("m")
        context.detach(token)

    with spanflow.engagement("x", id="1"), spanflow.step("a"), spanflow.agent("planner"):
        thread = threading.Thread(target=work, args=(context.get_current(),))
        thread.start()
        thread.join()
    assert flow.sql("SELECT model, agent_name, step_name FROM llm_calls") == [("m", "planner", "a")]


def test_inside_a_node(flow: Flow) -> None:
    def node(state: State) -> State:
        with spanflow.agent("planner"):
            llm(1, 1).invoke("x")
            with spanflow.agent("writer") as writer, spanflow.step("draft"):
                llm(2, 2).invoke("x")
                call("own")
        call("after")
        return {"log": [writer.parent]}

    assert chain("a", "b", a=node, b=calling(llm(3, 3))).invoke({"log": []})["log"][0] == "planner"
    assert flow.sql("SELECT total_tokens, agent_name FROM llm_calls ORDER BY started_at") == [
        (2, "planner"),
        (4, "writer"),
        (2, "writer"),
        (2, None),
        (6, None),
    ]
    assert flow.sql("SELECT path, agent_name FROM steps ORDER BY started_at") == [
        ("a", None),
        ("a/draft", "writer"),
        ("b", None),
    ]


def test_around_a_graph(flow: Flow) -> None:
    builder = StateGraph(State)
    builder.add_node("sub", chain("deep", deep=calling(llm(1, 1))))
    builder.add_edge(START, "sub")
    with spanflow.engagement("x", id="1"), spanflow.agent("planner"):
        builder.compile().invoke({"log": []})
    assert flow.sql("SELECT path, agent_name FROM steps ORDER BY started_at") == [
        ("sub", "planner"),
        ("sub/deep", "planner"),
    ]
    assert flow.sql(CALLS) == [("fake-1", "planner")]


def test_an_agent_of_one_engagement_is_none_of_a_later_one(flow: Flow) -> None:
    with spanflow.agent("planner"):
        pass
    with spanflow.step("a"):
        call("m")
    assert flow.sql(CALLS) == [("m", None)]


def test_usage_by_agent(flow: Flow) -> None:
    with spanflow.engagement("x", id="1"):
        for name in ("planner", "writer", "planner"):
            with spanflow.agent(name):
                call("m")
    assert flow.sql("SELECT key, total_tokens FROM usage_by('agent') ORDER BY key") == [
        ("planner", 4),
        ("writer", 2),
    ]
