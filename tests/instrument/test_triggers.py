"""Which step started which: links on spans and ids in records, whatever the graph's shape."""

from __future__ import annotations

import json
import operator
from typing import TYPE_CHECKING, Annotated, Any

import pytest
from graphs import State, chain
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.func import entrypoint, task
from langgraph.graph import END, START, StateGraph
from langgraph.pregel import NodeBuilder, Pregel
from langgraph.types import CachePolicy, Command, RetryPolicy, Send, interrupt
from opentelemetry import context as otel_context
from opentelemetry import trace

from spanflow import guard

if TYPE_CHECKING:
    from conftest import Flow


def noting(name: str) -> Any:
    return lambda state: {"log": [name]}


def graph_of(names: str, **nodes: Any) -> Any:
    builder = StateGraph(State)
    for name in names:
        builder.add_node(name, nodes.get(name) or noting(name))
    return builder


def causes(flow: Flow) -> dict[str, list[str]]:
    """Each step's causes (``path``, ``path#visit``), as its links and its record have them."""
    steps = {s.context.span_id: s for s in flow.spans if s.name.startswith("step ")}

    def label(span: Any) -> str:
        path, visit = (span.attributes[f"spanflow.step.{key}"] for key in ("path", "visit"))
        return path if visit == 1 else f"{path}#{visit}"

    linked = {
        label(span): [label(steps[link.context.span_id]) for link in span.links]
        for span in steps.values()
    }
    kinds = {link.attributes["spanflow.link.kind"] for s in steps.values() for link in s.links}
    assert kinds <= {"triggered_by"}
    ids = {f"{span_id:016x}": label(span) for span_id, span in steps.items()}
    recorded = {
        ids[step_id]: [ids[cause] for cause in json.loads(told or "[]")]
        for step_id, told in flow.sql(
            "SELECT span_id, triggered_by FROM records WHERE kind = 'step'"
        )
    }
    assert recorded == linked
    return linked


def diamond() -> Any:
    builder = graph_of("abcd")
    builder.add_edge(START, "a")
    builder.add_edge("a", "b")
    builder.add_edge("a", "c")
    builder.add_edge(["b", "c"], "d")
    return builder.compile()


DIAMOND = {"a": [], "b": ["a"], "c": ["a"], "d": ["b", "c"]}


def test_a_join_follows_from_all_it_waited_for(flow: Flow) -> None:
    diamond().invoke({"log": []})
    assert causes(flow) == DIAMOND


async def test_a_join_asynchronously(flow: Flow) -> None:
    await diamond().ainvoke({"log": []})
    assert causes(flow) == DIAMOND


def test_a_join_of_branches_of_unlike_length_waits_for_the_longest(flow: Flow) -> None:
    builder = graph_of("abcde")
    builder.add_edge(START, "a")
    builder.add_edge(START, "b")
    builder.add_edge("b", "c")
    builder.add_edge("c", "d")
    builder.add_edge(["a", "d"], "e")
    builder.compile().invoke({"log": []})
    assert causes(flow) == {"a": [], "b": [], "c": ["b"], "d": ["c"], "e": ["a", "d"]}


def test_what_starts_a_step_apart_from_a_join_leaves_the_join_waiting(flow: Flow) -> None:
    """`e` runs for `a` alone at first, and then for the two it joins."""
    builder = graph_of("abce")
    builder.add_edge(START, "a")
    builder.add_edge(START, "b")
    builder.add_edge("b", "c")
    builder.add_edge(["a", "c"], "e")
    builder.add_edge("a", "e")
    builder.compile().invoke({"log": []})
    assert causes(flow) == {"a": [], "b": [], "c": ["b"], "e": ["a"], "e#2": ["a", "c"]}


def test_a_join_takes_a_source_that_comes_again_once(flow: Flow) -> None:
    builder = graph_of("abce")
    builder.add_edge(START, "a")
    builder.add_conditional_edges("a", lambda state: "a" if len(state["log"]) < 3 else "b")
    builder.add_edge("b", "c")
    builder.add_edge(["a", "c"], "e")
    builder.compile().invoke({"log": []})
    expected = {"a": [], "a#2": ["a"], "a#3": ["a#2"], "b": ["a#3"], "c": ["b"], "e": ["a", "c"]}
    assert causes(flow) == expected


def test_a_join_of_what_was_sent_takes_all_of_it(flow: Flow) -> None:
    builder = graph_of("pwxj")
    builder.add_edge(START, "p")
    builder.add_conditional_edges("p", lambda s: [Send("w", {"log": []}) for _ in range(3)], ["w"])
    builder.add_edge("p", "x")
    builder.add_edge(["w", "x"], "j")
    builder.compile().invoke({"log": []})
    assert sorted(causes(flow)["j"]) == ["w", "w#2", "w#3", "x"]


def test_a_deferred_step_follows_from_all_that_led_to_it(flow: Flow) -> None:
    builder = graph_of("abc")
    builder.add_node("last", noting("last"), defer=True)
    builder.add_edge(START, "a")
    builder.add_edge(START, "b")
    builder.add_edge("b", "c")
    builder.add_edge("a", "last")
    builder.add_edge("c", "last")
    builder.compile().invoke({"log": []})
    assert causes(flow) == {"a": [], "b": [], "c": ["b"], "last": ["a", "c"]}


@pytest.mark.parametrize("saver", [None, InMemorySaver()])
def test_what_was_sent_points_to_its_sender(flow: Flow, saver: Any) -> None:
    builder = graph_of("pqwj")
    for name in "pq":
        builder.add_edge(START, name)
        sends: Any = [Send("w", {"log": [name]}) for _ in range(2)]
        builder.add_conditional_edges(name, lambda state, sends=sends: sends, ["w"])
    builder.add_edge("w", "j")
    builder.compile(checkpointer=saver).invoke(
        {"log": []}, {"configurable": {"thread_id": "sends"}}
    )
    workers = ["w", "w#2", "w#3", "w#4"]
    found = causes(flow)
    assert sorted(found.pop(worker)[0] for worker in workers) == ["p", "p", "q", "q"]
    assert sorted(found.pop("j")) == workers
    assert found == {"p": [], "q": []}


def test_loops_and_branches(flow: Flow) -> None:
    builder = graph_of("ab")
    builder.add_edge(START, "a")
    builder.add_conditional_edges("a", lambda state: "a" if len(state["log"]) < 3 else "b")
    builder.compile().invoke({"log": []})
    assert causes(flow) == {"a": [], "a#2": ["a"], "a#3": ["a#2"], "b": ["a#3"]}


def test_a_command_and_what_is_sent_beside_an_edge(flow: Flow) -> None:
    def jump(state: State) -> Command[Any]:
        return Command(update={"log": ["jump"]}, goto=["two", Send("three", {"log": []})])

    builder = StateGraph(State)
    builder.add_node("one", jump, destinations=("two", "three"))
    builder.add_node("two", noting("two"))
    builder.add_node("three", noting("three"))
    builder.add_edge(START, "one")
    builder.compile().invoke({"log": []})
    assert causes(flow) == {"one": [], "two": ["one"], "three": ["one"]}


def test_causes_stay_within_their_graph(flow: Flow) -> None:
    def leave(state: State) -> Command[Any]:
        return Command(graph=Command.PARENT, goto="after", update={"log": ["left"]})

    builder = StateGraph(State)
    builder.add_node("before", noting("before"))
    builder.add_node("sub", chain("x", "leave", leave=leave))
    builder.add_node("after", noting("after"))
    builder.add_edge(START, "before")
    builder.add_edge("before", "sub")
    builder.compile().invoke({"log": []})
    assert causes(flow) == {
        "before": [],
        "sub": ["before"],
        "sub/x": [],
        "sub/leave": ["sub/x"],
        "after": ["sub"],
    }


def test_a_call_of_a_task_is_inside_its_caller_and_no_consequence(flow: Flow) -> None:
    @task
    def double(value: int) -> int:
        return value * 2

    @entrypoint()
    def work(value: int) -> int:
        return double(value).result() + double(value).result()

    assert work.invoke(2) == 8
    assert causes(flow) == {"work": [], "work/double": [], "work/double#2": []}


def test_attempts_and_cached_results_keep_their_causes(flow: Flow) -> None:
    from langgraph.cache.memory import InMemoryCache

    tries = iter(range(9))

    def flaky(state: State) -> State:
        if next(tries) < 1:
            raise ConnectionError
        return {"log": ["flaky"]}

    builder = graph_of("ac")
    policy = RetryPolicy(max_attempts=3, initial_interval=0.001)
    builder.add_node("flaky", flaky, retry_policy=policy, cache_policy=CachePolicy(ttl=60))
    builder.add_edge(START, "a")
    builder.add_edge("a", "flaky")
    builder.add_edge("flaky", "c")
    app = builder.compile(cache=InMemoryCache())
    app.invoke({"log": []})
    flow.exporter.clear()
    expected = {"a": [], "flaky": ["a"], "c": ["flaky"]}
    app.invoke({"log": []})
    linked = {
        s.attributes["spanflow.step.path"]: len(s.links)  # type: ignore[index]
        for s in flow.spans
        if s.name.startswith("step ")
    }
    assert linked == {path: len(found) for path, found in expected.items()}
    assert flow.one("SELECT count(*) FROM records WHERE triggered_by IS NOT NULL") == 4


def test_the_handler_of_an_error_follows_from_the_step_that_failed(flow: Flow) -> None:
    def boom(state: State) -> State:
        raise ValueError

    builder = StateGraph(State)
    builder.add_node("a", noting("a"))
    builder.add_node("boom", boom, error_handler=noting("handled"))
    builder.add_edge(START, "a")
    builder.add_edge("a", "boom")
    builder.compile().invoke({"log": []})
    found = causes(flow)
    assert found.pop("boom") == ["a"]
    [(_, handler)] = [(path, by) for path, by in found.items() if path != "a"]
    assert handler == ["boom"]


def test_the_first_steps_of_a_resumed_turn_have_no_cause(flow: Flow) -> None:
    builder = graph_of("abc", b=lambda state: {"log": [interrupt("?")]})
    builder.add_edge(START, "a")
    builder.add_edge("a", "b")
    builder.add_edge("b", "c")
    app = builder.compile(checkpointer=InMemorySaver())
    config: Any = {"configurable": {"thread_id": "t"}}
    app.invoke({"log": []}, config)
    assert causes(flow) == {"a": [], "b": ["a"]}
    flow.exporter.clear()
    app.invoke(Command(resume="yes"), config)
    linked = {s.name: len(s.links) for s in flow.spans if s.name.startswith("step ")}
    assert linked == {"step b": 0, "step c": 1}


def test_a_graph_whose_steps_wait_for_values(flow: Flow) -> None:
    """Steps that subscribe to channels of the state, as LangGraph's own core has them."""
    from langgraph.channels import LastValue

    def node(reads: str, writes: str) -> Any:
        return NodeBuilder().subscribe_only(reads).do(lambda value: value + 1).write_to(writes)

    app = Pregel(
        nodes={"one": node("a", "b"), "two": node("b", "c"), "other": node("b", "d")},
        channels={name: LastValue(int) for name in "abcd"},
        input_channels=["a"],
        output_channels=["c", "d"],
    )
    guard.set_strict(False)  # LangGraph cannot draw such a graph
    assert app.invoke({"a": 1}) == {"c": 3, "d": 3}
    assert causes(flow) == {"one": [], "two": ["one"], "other": ["one"]}


def test_more_causes_than_a_span_has_links_for(flow: Flow) -> None:
    builder = graph_of("pwj")
    builder.add_edge(START, "p")
    builder.add_conditional_edges(
        "p", lambda state: [Send("w", {"log": []}) for _ in range(200)], ["w"]
    )
    builder.add_edge("w", "j")
    builder.compile().invoke({"log": []})
    assert len(flow.named("step j")[0].links) == 128
    query = "SELECT json_array_length(triggered_by) FROM records WHERE path = 'j'"
    assert flow.one(query) == 200


def test_without_spans_the_records_have_their_causes(flow: Flow) -> None:
    parent = trace.SpanContext(1, 2, is_remote=True, trace_flags=trace.TraceFlags(0))
    token = otel_context.attach(trace.set_span_in_context(trace.NonRecordingSpan(parent)))
    try:
        diamond().invoke({"log": []})
    finally:
        otel_context.detach(token)
    assert not flow.spans
    rows = flow.sql(
        """SELECT s.path, c.path FROM records s, unnest(s.triggered_by::VARCHAR[]) u(cause)
           JOIN records c ON c.span_id = u.cause ORDER BY ALL"""
    )
    assert rows == [("b", "a"), ("c", "a"), ("d", "b"), ("d", "c")]


def test_a_log_that_grows_in_a_loop_holds_nothing(flow: Flow) -> None:
    """What a frame remembers of causes is of one superstep."""
    from spanflow.capture import scope as scopes

    held: list[int] = []

    class Loop(State):
        n: Annotated[int, operator.add]

    def it(state: Any) -> Any:
        scope = scopes.live()
        assert scope is not None
        assert scope.frame is not None
        parts = ("_begun", "_fired", "_waiting", "_sent", "_due")
        held.append(sum(len(getattr(scope.frame.causes, part)) for part in parts))
        return {"n": 1}

    builder = StateGraph(Loop)
    builder.add_node("it", it)
    builder.add_edge(START, "it")
    builder.add_conditional_edges("it", lambda state: "it" if state["n"] < 50 else END)
    builder.compile().invoke({"log": [], "n": 0}, {"recursion_limit": 100})
    assert len(held) == 50
    assert max(held) <= 3
