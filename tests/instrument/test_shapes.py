"""Every shape a graph can take: branches, fan-out, loops, subgraphs, tasks, cache, commands."""

from __future__ import annotations

import gc
import json
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from graphs import State, calling, chain, llm
from langgraph.cache.memory import InMemoryCache
from langgraph.func import entrypoint, task
from langgraph.graph import END, START, StateGraph
from langgraph.types import CachePolicy, Command, Send

if TYPE_CHECKING:
    from conftest import Flow


def diamond(sleep_b: float = 0.6, sleep_c: float = 0.05) -> Any:
    def waits(seconds: float) -> Any:
        def node(state: State) -> State:
            time.sleep(seconds)
            return {"log": ["x"]}

        return node

    builder = StateGraph(State)
    builder.add_node("a", waits(0))
    builder.add_node("b", waits(sleep_b))
    builder.add_node("c", waits(sleep_c))
    builder.add_node("d", waits(0))
    builder.add_edge(START, "a")
    builder.add_edge("a", "b")
    builder.add_edge("a", "c")
    builder.add_edge(["b", "c"], "d")
    builder.add_edge("d", END)
    return builder.compile()


def test_parallel_branches_overlap_under_the_turn(flow: Flow) -> None:
    diamond().invoke({"log": []})
    rows = {
        name: (start, end, ms, parent)
        for name, start, end, ms, parent in flow.sql(
            "SELECT name, started_at, ended_at, duration_ms, parent_step_id FROM steps"
        )
    }
    assert set(rows) == {"a", "b", "c", "d"}
    b, c = rows["b"], rows["c"]
    assert max(b[0], c[0]) < min(b[1], c[1])
    assert b[2] >= 600
    assert c[2] < b[2]
    turn = next(s for s in flow.spans if s.name.startswith("invoke_workflow"))
    for step in flow.spans:
        if step.name.startswith("step"):
            assert step.parent is not None
            assert turn.context is not None
            assert step.parent.span_id == turn.context.span_id


async def test_parallel_branches_asynchronously(flow: Flow) -> None:
    await diamond(0.02, 0.01).ainvoke({"log": []})
    assert next(p for p, _ in flow.steps()) == "a"
    assert {p for p, _ in flow.steps()} == {"a", "b", "c", "d"}


def test_send_makes_distinct_steps(flow: Flow) -> None:
    model = llm(10, 1)
    builder = StateGraph(State)
    builder.add_node("plan", lambda state: {"log": ["plan"]})
    builder.add_node("worker", calling(model))
    builder.add_node("join", lambda state: {"log": ["join"]})
    builder.add_edge(START, "plan")
    builder.add_conditional_edges(
        "plan", lambda s: [Send("worker", {"log": [i]}) for i in range(3)]
    )
    builder.add_edge("worker", "join")
    builder.add_edge("join", END)
    builder.compile().invoke({"log": []})
    assert sorted(p for p, _ in flow.steps()) == ["join", "plan", "worker", "worker", "worker"]
    assert flow.one("SELECT count(DISTINCT step_id) FROM steps WHERE name = 'worker'") == 3
    assert flow.one("SELECT total_tokens FROM engagements") == 33
    assert flow.sql("SELECT visit FROM steps WHERE name = 'worker' ORDER BY visit") == [
        (1,),
        (2,),
        (3,),
    ]


@pytest.mark.parametrize("path_map", [None, {"it": "it", "end": END}])
def test_a_loop_counts_its_visits(flow: Flow, path_map: Any) -> None:
    model = llm(5, 5)
    builder = StateGraph(State)
    builder.add_node("it", calling(model))
    builder.add_edge(START, "it")
    end = "end" if path_map else END
    builder.add_conditional_edges("it", lambda s: "it" if len(s["log"]) < 3 else end, path_map)
    builder.compile().invoke({"log": []})
    assert flow.sql("SELECT path, visit, total_tokens FROM steps ORDER BY started_at") == [
        ("it", 1, 10),
        ("it", 2, 10),
        ("it", 3, 10),
    ]
    assert flow.one("SELECT total_tokens FROM engagements") == 30
    [(edges,)] = flow.sql("SELECT edges FROM graphs")
    assert ("it", "it") in {(e["source"], e["target"]) for e in json.loads(edges)}


def test_the_router_before_the_first_step_is_none(flow: Flow) -> None:
    builder = StateGraph(State)
    builder.add_node("escalate", lambda state: {"log": ["escalate"]})
    model = llm(5, 5)
    builder.add_conditional_edges(START, lambda s: model.invoke("?") and "escalate", ["escalate"])
    builder.compile().invoke({"log": []}, {"metadata": {"spanflow_global_steps": ["escalate"]}})
    assert flow.sql("SELECT path FROM steps") == [("escalate",)]
    assert flow.sql("SELECT step_id, total_tokens FROM llm_calls") == [(None, 10)]
    [(switch,)] = flow.sql("SELECT payload FROM events WHERE kind = 'intent_switch'")
    assert json.loads(switch) == {"from": None, "to": "escalate"}


def subgraph() -> Any:
    inner = chain("s1", "s2", s1=calling(llm(7, 3)))
    builder = StateGraph(State)
    builder.add_node("outer", lambda state: {"log": ["outer"]})
    builder.add_node("sub", inner)
    builder.add_edge(START, "outer")
    builder.add_edge("outer", "sub")
    return builder.compile()


@pytest.mark.parametrize("streamed", [False, True])
def test_a_subgraph_is_a_step_with_steps(flow: Flow, streamed: bool) -> None:
    if streamed:
        list(subgraph().stream({"log": []}, subgraphs=True))
    else:
        subgraph().invoke({"log": []})
    assert flow.sql(
        """SELECT s.path, p.path, s.total_tokens FROM steps s
           LEFT JOIN steps p ON s.parent_step_id = p.step_id ORDER BY s.started_at"""
    ) == [
        ("outer", None, 0),
        ("sub", None, 10),
        ("sub/s1", "sub", 10),
        ("sub/s2", "sub", 0),
    ]
    assert flow.one("SELECT total_tokens FROM engagements") == 10
    assert flow.one("SELECT count(*) FROM turns") == 1
    turn = next(s.name for s in flow.spans if s.name.startswith("invoke_workflow"))
    nested = next(
        s.name for s in flow.spans if s.name.startswith("invoke_workflow") and s.name != turn
    )
    names = {turn, nested}
    [[root, [outer, [sub, [[graph, inner]]]]]] = flow.tree()
    assert {root, graph} == names
    assert (outer, sub) == ("step outer", "step sub")
    assert inner == [["step s1", ["chat fake-1"]], "step s2"]
    sub_span = flow.named("step sub")[0]
    assert sub_span.attributes is not None
    assert sub_span.attributes["spanflow.usage.total_tokens"] == 10


async def test_a_subgraph_asynchronously(flow: Flow) -> None:
    await subgraph().ainvoke({"log": []})
    assert [p for p, _ in flow.steps()] == ["outer", "sub", "sub/s1", "sub/s2"]


def test_a_node_named_like_its_subgraphs_node_counts_once(flow: Flow) -> None:
    builder = StateGraph(State)
    builder.add_node("same", chain("same"))
    builder.add_edge(START, "same")
    builder.compile().invoke({"log": []})
    assert [p for p, _ in flow.steps()] == ["same", "same/same"]


def test_a_graph_invoked_inside_a_node_is_no_new_turn(flow: Flow) -> None:
    inner = chain("deep", deep=calling(llm(2, 2)))

    def node(state: State) -> State:
        inner.invoke({"log": []})
        inner.invoke({"log": []}, {"configurable": {"thread_id": "its own"}, "callbacks": []})
        return {"log": []}

    chain("outer", outer=node).invoke({"log": []})
    assert [p for p, _ in flow.steps()] == ["outer", "outer/deep", "outer/deep"]
    assert flow.one("SELECT count(*) FROM engagements") == 1
    assert flow.sql("SELECT total_tokens FROM steps WHERE path = 'outer'") == [(8,)]


async def test_an_agent_used_as_a_tool_nests_in_it(flow: Flow) -> None:
    from langchain_core.tools import tool

    inner = chain("deep", deep=calling(llm(2, 2)))

    @tool
    async def ask(word: str) -> str:
        """Ask the other agent."""
        await inner.ainvoke({"log": []})
        return word

    async def node(state: State) -> State:
        await ask.ainvoke({"word": "x"})
        return {"log": []}

    await chain("outer", outer=node).ainvoke({"log": []})
    [[_, [[step, [[called, [[nested, [inside]]]]]]]]] = flow.tree()
    assert (step, called, inside[0]) == ("step outer", "execute_tool ask", "step deep")
    assert nested.startswith("invoke_workflow")
    assert flow.sql("SELECT path, total_tokens FROM steps ORDER BY started_at") == [
        ("outer", 4),
        ("outer/deep", 4),
    ]


def test_the_functional_api(flow: Flow) -> None:
    model = llm(1, 2)

    @task
    def double(value: int) -> int:
        model.invoke("x")
        return value * 2

    @entrypoint()
    def work(value: int) -> int:
        return double(value).result() + double(value).result()

    assert work.invoke(2) == 8
    assert flow.sql("SELECT path, total_tokens FROM steps ORDER BY started_at") == [
        ("work", 6),
        ("work/double", 3),
        ("work/double", 3),
    ]


def cached() -> Any:
    builder = StateGraph(State)
    builder.add_node("dear", lambda state: {"log": ["x"]}, cache_policy=CachePolicy(ttl=60))
    builder.add_node("next", lambda state: {"log": ["y"]})
    builder.add_edge(START, "dear")
    builder.add_edge("dear", "next")
    return builder.compile(cache=InMemoryCache())


@pytest.mark.parametrize("mode", ["values", "updates"])
def test_a_cached_node_is_a_step(flow: Flow, mode: Any) -> None:
    app = cached()
    first = list(app.stream({"log": []}, stream_mode=mode))
    second = list(app.stream({"log": []}, stream_mode=mode))
    assert len(first) <= len(second)
    assert [p for p, _ in flow.steps()] == ["dear", "next", "dear", "next"]
    rows = flow.sql("SELECT duration_ms FROM steps WHERE path = 'dear' ORDER BY started_at")
    assert len(rows) == 2
    assert flow.named("step dear")[1].attributes["spanflow.step.cached"] is True  # type: ignore[index]


async def test_a_cached_node_asynchronously(flow: Flow) -> None:
    app = cached()
    await app.ainvoke({"log": []})
    await app.ainvoke({"log": []})
    assert [p for p, _ in flow.steps()] == ["dear", "next", "dear", "next"]


async def test_a_cached_task_is_a_step_inside_its_workflow(flow: Flow) -> None:
    look = task(lambda area: area, cache_policy=CachePolicy(ttl=60), name="look")

    @entrypoint(cache=InMemoryCache())
    async def trip(area: str) -> list[str]:
        return [await look(area), await look("Ginza")]

    for _ in range(2):
        assert await trip.ainvoke("Ueno") == ["Ueno", "Ginza"]
    assert flow.sql("SELECT path, count(*), count(parent_step_id) FROM steps GROUP BY path") == [
        ("trip", 2, 0),
        ("trip/look", 4, 4),
    ]


def test_commands_and_odd_results_are_recorded(flow: Flow) -> None:
    def jump(state: State) -> Command[Any]:
        return Command(update={"log": ["jump"]}, goto="two")

    def many(state: State) -> list[Any]:
        return [Command(update={"log": ["a"]}), {"log": ["b"]}]

    builder = StateGraph(State)
    builder.add_node("one", jump, destinations=("two",))
    builder.add_node("two", many)
    builder.add_node("three", lambda state: None)
    builder.add_edge(START, "one")
    builder.add_edge("two", "three")
    result = builder.compile().invoke({"log": []})
    assert result == {"log": ["jump", "a", "b"]}
    assert flow.steps() == [("one", "completed"), ("two", "completed"), ("three", "completed")]


def test_a_command_to_the_parent_graph_is_control_flow(flow: Flow) -> None:
    def leave(state: State) -> Command[Any]:
        return Command(graph=Command.PARENT, goto="after", update={"log": ["left"]})

    builder = StateGraph(State)
    builder.add_node("sub", chain("leave", leave=leave))
    builder.add_node("after", lambda state: {"log": ["after"]})
    builder.add_edge(START, "sub")
    assert builder.compile().invoke({"log": []})["log"][-1] == "after"
    assert flow.steps() == [
        ("sub", "completed"),
        ("sub/leave", "completed"),
        ("after", "completed"),
    ]
    assert flow.one("SELECT errors FROM engagements") == 0


def test_a_state_that_cannot_be_serialised_is_no_matter(flow: Flow) -> None:
    lock, function = threading.Lock(), lambda: None
    result = chain("a").invoke({"log": [lock, function]})
    assert result["log"] == [lock, function, "a"]
    assert flow.steps() == [("a", "completed")]


def test_memory_is_given_back(flow: Flow) -> None:
    from spanflow.capture.scope import turns
    from spanflow.instrument.calls import places

    subgraph().invoke({"log": []})
    list(diamond(0, 0).stream({"log": []}, stream_mode="messages"))
    for _ in diamond(0, 0).stream({"log": []}):
        break
    assert flow.one("SELECT count(*) FROM turns") == 3
    gc.collect()
    assert not places
    assert not dict(turns)
