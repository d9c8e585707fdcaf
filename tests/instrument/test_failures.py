"""How runs go wrong, and that the user gets exactly what they would have got."""

from __future__ import annotations

import asyncio
import threading
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from graphs import State, calling, chain, llm
from langgraph.errors import GraphRecursionError
from langgraph.graph import END, START, StateGraph
from langgraph.types import RetryPolicy
from opentelemetry import trace
from opentelemetry.trace import StatusCode

if TYPE_CHECKING:
    from conftest import Flow


def raising(error: BaseException, before: Any = None) -> Any:
    def node(state: State) -> State:
        if before is not None:
            before(state)
        raise error

    return node


def test_a_failing_node_fails_the_engagement_and_the_user_gets_the_error(flow: Flow) -> None:
    app = chain("ok", "boom", ok=calling(llm(1, 1)), boom=raising(ValueError("boom detail")))
    with pytest.raises(ValueError, match="boom detail"):
        app.invoke({"log": []})
    assert flow.sql("SELECT status, dropped_at, errors, total_tokens FROM engagements") == [
        ("failed", "boom", 1, 2)
    ]
    [(kind, message)] = flow.sql("SELECT error_type, error_message FROM steps WHERE path = 'boom'")
    assert (kind, message) == ("ValueError", "boom detail")
    [(payload,)] = flow.sql("SELECT payload FROM events WHERE kind = 'error'")
    assert "boom detail" in payload
    assert "Traceback" in payload
    step = flow.named("step boom")[0]
    assert step.status.status_code is StatusCode.ERROR
    assert [e.name for e in step.events] == ["exception"]
    turn = next(s for s in flow.spans if s.name.startswith("invoke_workflow"))
    assert turn.attributes is not None
    assert turn.status.status_code is StatusCode.ERROR
    assert turn.attributes["spanflow.turn.outcome"] == "failed"
    assert turn.attributes["spanflow.turn.dropped_at"] == "boom"


def test_tokens_of_a_failing_node_are_counted(flow: Flow) -> None:
    app = chain("a", a=raising(ValueError("x"), before=calling(llm(20, 10), times=2)))
    with pytest.raises(ValueError, match="x"):
        app.invoke({"log": []})
    assert flow.one("SELECT total_tokens FROM engagements") == 60


async def test_a_failing_branch_cancels_its_async_sibling(flow: Flow) -> None:
    begun = asyncio.Event()

    async def aboom(state: State) -> State:
        await begun.wait()
        msg = "no"
        raise ValueError(msg)

    async def slow(state: State) -> State:
        begun.set()
        await asyncio.sleep(60)
        return {"log": []}

    builder = StateGraph(State)
    builder.add_node("aboom", aboom)
    builder.add_node("slow", slow)
    builder.add_edge(START, "aboom")
    builder.add_edge(START, "slow")
    with pytest.raises(ValueError, match="no"):
        await builder.compile().ainvoke({"log": []})
    assert dict(flow.steps()) == {"aboom": "failed", "slow": "cancelled"}
    assert flow.one("SELECT count(*) FROM steps WHERE ended_at IS NULL") == 0
    assert flow.one("SELECT dropped_at FROM engagements") == "aboom"


def test_a_failing_branch_lets_its_sync_sibling_finish(flow: Flow) -> None:
    begun = threading.Event()

    def boom(state: State) -> State:
        assert begun.wait(120)
        msg = "no"
        raise ValueError(msg)

    def slow(state: State) -> State:
        begun.set()
        time.sleep(0.2)
        return {"log": []}

    builder = StateGraph(State)
    builder.add_node("boom", boom)
    builder.add_node("slow", slow)
    builder.add_edge(START, "boom")
    builder.add_edge(START, "slow")
    with pytest.raises(ValueError, match="no"):
        builder.compile().invoke({"log": []})
    assert dict(flow.steps()) == {"boom": "failed", "slow": "completed"}


def retrying(fails: int, attempts: int = 3) -> Any:
    tries = iter(range(1_000))
    model = llm(5, 5)

    def flaky(state: State) -> State:
        model.invoke("x")
        if next(tries) < fails:
            msg = "not yet"
            raise ConnectionError(msg)
        return {"log": ["done"]}

    builder = StateGraph(State)
    policy = RetryPolicy(max_attempts=attempts, initial_interval=0.001, jitter=False)
    builder.add_node("flaky", flaky, retry_policy=policy)
    builder.add_node("after", lambda state: {"log": ["after"]})
    builder.add_edge(START, "flaky")
    builder.add_edge("flaky", "after")
    return builder.compile()


def test_attempts_are_one_step(flow: Flow) -> None:
    retrying(2).invoke({"log": []})
    assert flow.sql(
        "SELECT path, status, attempts, total_tokens FROM steps ORDER BY started_at"
    ) == [
        ("flaky", "completed", 3, 30),
        ("after", "completed", 1, 0),
    ]
    assert flow.sql("SELECT status, errors, total_tokens FROM engagements") == [
        ("completed", 2, 30)
    ]
    assert len(flow.named("step flaky")) == 1
    assert flow.named("step flaky")[0].status.status_code is StatusCode.UNSET


def test_a_call_says_in_which_attempt_it_was_made(flow: Flow) -> None:
    """Also one of a step inside the step that is tried again, and a call that others report."""
    tries = iter(range(9))
    others = trace.get_tracer("others")
    spent = {"gen_ai.operation.name": "chat", "gen_ai.usage.input_tokens": 3}

    def inner(state: State) -> State:
        llm(5, 5).invoke("x")
        with others.start_as_current_span("chat", attributes=spent):
            pass
        if next(tries) < 2:
            raise ConnectionError
        return {"log": []}

    builder = StateGraph(State)
    policy = RetryPolicy(max_attempts=3, initial_interval=0.001)
    builder.add_node("sub", chain("inner", inner=inner), retry_policy=policy)
    builder.add_node("after", calling(llm(1, 1)))
    builder.add_edge(START, "sub")
    builder.add_edge("sub", "after")
    builder.compile().invoke({"log": []})
    rows = flow.sql("SELECT scope, attempt FROM records WHERE kind = 'llm' ORDER BY started_ns")
    assert rows == [
        (scope, attempt) for attempt in (None, 2, 3) for scope in ("spanflow", "others")
    ] + [("spanflow", None)]
    on_spans = [
        (s.attributes or {}).get("spanflow.call.attempt")
        for s in flow.spans
        if s.name.startswith("chat")
    ]
    assert sorted(on_spans, key=str) == [2, 2, 3, 3, None, None, None]


async def test_attempts_asynchronously(flow: Flow) -> None:
    await retrying(2).ainvoke({"log": []})
    assert flow.sql("SELECT attempts, status FROM steps WHERE path = 'flaky'") == [(3, "completed")]


def test_attempts_that_run_out_fail_at_the_last_ones_end(flow: Flow) -> None:
    with pytest.raises(ConnectionError):
        retrying(9, attempts=2).invoke({"log": []})
    assert flow.sql("SELECT path, status, attempts FROM steps") == [("flaky", "failed", 2)]
    assert flow.sql("SELECT status, dropped_at, errors FROM engagements") == [
        ("failed", "flaky", 2)
    ]


async def test_cancelling_a_run_cancels_its_turn(flow: Flow) -> None:
    begun = asyncio.Event()

    async def slow(state: State) -> State:
        begun.set()
        await asyncio.sleep(60)
        return {"log": []}

    running = asyncio.create_task(chain("slow", slow=slow).ainvoke({"log": []}))
    await begun.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert flow.sql("SELECT outcome FROM turns") == [("cancelled",)]
    assert flow.steps() == [("slow", "cancelled")]
    assert flow.one("SELECT errors FROM engagements") == 0


async def test_a_node_timeout_fails_the_step_that_ran_out_of_time(flow: Flow) -> None:
    from langgraph.errors import NodeTimeoutError

    async def slow(state: State) -> State:
        await asyncio.sleep(10)
        return {"log": []}

    builder = StateGraph(State)
    builder.add_node("slow", slow, timeout=timedelta(milliseconds=50))
    builder.add_edge(START, "slow")
    with pytest.raises(NodeTimeoutError):
        await builder.compile().ainvoke({"log": []})
    assert flow.steps() == [("slow", "failed")]
    assert flow.sql("SELECT status, dropped_at, errors FROM engagements") == [("failed", "slow", 1)]


async def test_a_caller_that_stops_waiting_cancels_the_turn(flow: Flow) -> None:
    async def slow(state: State) -> State:
        await asyncio.sleep(60)
        return {"log": []}

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(chain("slow", slow=slow).ainvoke({"log": []}), 0.1)
    assert flow.sql("SELECT outcome FROM turns") == [("cancelled",)]


def test_the_recursion_limit_fails_the_turn(flow: Flow) -> None:
    builder = StateGraph(State)
    builder.add_node("it", lambda state: {"log": ["x"]})
    builder.add_edge(START, "it")
    builder.add_conditional_edges("it", lambda state: "it", ["it", END])
    with pytest.raises(GraphRecursionError):
        builder.compile().invoke({"log": []}, {"recursion_limit": 4})
    assert flow.sql("SELECT outcome, error_type FROM turns") == [("failed", "GraphRecursionError")]
    assert flow.sql("SELECT status, dropped_at, errors FROM engagements") == [("failed", "it", 1)]
    assert flow.one("SELECT count(*) FROM steps WHERE status = 'completed'") == 4


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3)])
def test_leaving_the_program_ends_the_turn_and_propagates(flow: Flow, error: BaseException) -> None:
    with pytest.raises(type(error)):
        chain("a", a=raising(error)).invoke({"log": []})
    assert flow.sql("SELECT outcome FROM turns") == [("cancelled",)]
    assert flow.steps() == [("a", "cancelled")]


def test_an_error_inside_a_subgraph_is_named_by_its_innermost_step(flow: Flow) -> None:
    builder = StateGraph(State)
    builder.add_node("sub", chain("deep", deep=raising(ValueError("x"))))
    builder.add_edge(START, "sub")
    with pytest.raises(ValueError, match="x"):
        builder.compile().invoke({"log": []})
    assert flow.steps() == [("sub", "failed"), ("sub/deep", "failed")]
    assert flow.sql("SELECT dropped_at, errors FROM engagements") == [("sub/deep", 1)]


def test_a_wrong_call_raises_as_it_would_without_us(flow: Flow) -> None:
    app = chain("a")
    with pytest.raises(TypeError):
        app.invoke()
    with pytest.raises(ValueError, match="recursion_limit"):
        app.invoke({"log": []}, {"recursion_limit": 0})
    assert [s for (s,) in flow.sql("SELECT status FROM engagements")] == ["failed"]
