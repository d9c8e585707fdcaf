"""Tasks, threads and executors: each call under its own step, in the spans and in the ledger."""

from __future__ import annotations

import asyncio
import functools
import queue
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.pool import ThreadPool
from typing import TYPE_CHECKING, Any

import pytest
from graphs import chain
from opentelemetry import trace

import spanflow
from spanflow import guard

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from conftest import Flow

ENGAGEMENTS = 5
STEPS = 20
CALLS = 10


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    """A pool that is older than every engagement, and serves them all."""
    with ThreadPoolExecutor(8) as made:
        list(made.map(lambda _: None, range(8)))
        yield made


# -- every kind of function, each named after its step ---------------------------------------------


async def breathe() -> None:
    await asyncio.sleep(random.random() / 500)  # noqa: S311 - no secret


def tool(name: str) -> None:
    spanflow.tool(name)(lambda: None)()


async def tool_later(name: str) -> None:
    await spanflow.tool(name)(breathe)()


async def pieces(name: str) -> None:
    @spanflow.tool(name)
    async def streams() -> Any:
        await breathe()
        yield 1
        await breathe()
        yield 2

    async for _ in streams():
        await breathe()


async def by_gather(name: str, _: Any) -> None:
    kinds = [tool_later, pieces]
    await asyncio.gather(*(kinds[nth % 2](name) for nth in range(CALLS)))


async def by_group(name: str, _: Any) -> None:
    async with asyncio.TaskGroup() as group:
        for nth in range(CALLS):
            group.create_task([tool_later, pieces][nth % 2](name))


async def by_to_thread(name: str, _: Any) -> None:
    await asyncio.gather(*(asyncio.to_thread(tool, name) for _ in range(CALLS)))


async def by_executor(name: str, pool: Any) -> None:
    loop = asyncio.get_running_loop()
    await asyncio.gather(*(loop.run_in_executor(pool, tool, name) for _ in range(CALLS)))


async def by_submit(name: str, pool: Any) -> None:
    futures = [pool.submit(tool, name) for _ in range(CALLS)]
    await asyncio.gather(*map(asyncio.wrap_future, futures))


class Working(threading.Thread):
    def __init__(self, name: str) -> None:
        super().__init__(name=name)

    def run(self) -> None:
        tool(self.name)


async def by_threads(name: str, _: Any) -> None:
    threads = [
        threading.Thread(target=tool, args=(name,)) if nth % 2 else Working(name)
        for nth in range(CALLS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        while thread.is_alive():
            await breathe()


@pytest.mark.parametrize(
    "spread", [by_gather, by_group, by_to_thread, by_executor, by_submit, by_threads]
)
async def test_of_a_thousand_calls_none_is_misplaced(
    flow: Flow, sampled: bool, pool: Any, spread: Callable[..., Any]
) -> None:
    @spanflow.step
    async def step(name: str) -> None:
        await spread(name, pool)

    async def turn(nth: int) -> None:
        with spanflow.engagement(f"e{nth}"):
            steps = [spanflow.step(f"e{nth}.{each}")(step.__wrapped__) for each in range(STEPS)]
            await asyncio.gather(*(each(f"e{nth}.{at}") for at, each in enumerate(steps)))

    await asyncio.gather(*map(turn, range(ENGAGEMENTS)))
    await asyncio.to_thread(lambda: None)
    rows = flow.sql(
        """SELECT count(*), count(*) FILTER (c.name = s.name AND s.name LIKE e.name || '.%'
                                             AND c.parent_span_id = s.step_id)
           FROM records c LEFT JOIN steps s ON c.step_id = s.step_id AND c.turn_id = s.turn_id
                          LEFT JOIN engagements e ON c.engagement_id = e.engagement_id
           WHERE c.kind = 'tool'"""
    )
    assert rows == [(ENGAGEMENTS * STEPS * CALLS,) * 2]
    if not sampled:
        assert flow.spans == []
        return
    names = {span.context.span_id: span.name for span in flow.spans if span.context}
    calls = [span for span in flow.spans if span.name.startswith("execute_tool")]
    assert len(calls) == ENGAGEMENTS * STEPS * CALLS
    for call in calls:
        assert names[call.parent.span_id] == call.name.replace("execute_tool", "step")


# -- what stands in a thread -----------------------------------------------------------------------


def test_an_agent_a_call_and_a_users_span_go_along(flow: Flow, pool: Any) -> None:
    tracer = trace.get_tracer("mine")

    def own() -> None:
        with tracer.start_as_current_span("own"):
            spanflow.tool_call("inside", result=1)

    with spanflow.engagement("e"), spanflow.agent("a"), spanflow.step("s"):
        with spanflow.tool_call("outer"):
            pool.submit(own).result()
        with spanflow.tool_call("outer thread"):
            thread = threading.Thread(target=spanflow.tool_call, args=("in thread",))
            thread.start()
            thread.join()
    [[_, [[_, [[_, calls]]]]]] = flow.tree()
    assert calls == [
        ["execute_tool outer", [["own", ["execute_tool inside"]]]],
        ["execute_tool outer thread", ["execute_tool in thread"]],
    ]
    agents = flow.sql("SELECT DISTINCT agent_name FROM records WHERE kind = 'tool'")
    assert agents == [("a",)]


def test_tokens_count_once_across_threads(flow: Flow, sampled: bool, pool: Any) -> None:
    answer = {"usage": {"prompt_tokens": 10, "completion_tokens": 20}}
    inner = spanflow.llm(model="m")(lambda: answer)

    def by_thread() -> Any:
        thread = threading.Thread(target=inner)
        thread.start()
        thread.join()
        return answer

    with spanflow.engagement("e"), spanflow.step("s"):
        spanflow.llm(model="m")(lambda: pool.submit(inner).result())()
        spanflow.llm(model="m")(by_thread)()
    assert flow.sql("SELECT total_tokens, llm_calls FROM engagements") == [(60, 2)]
    assert flow.one("SELECT sum(total_tokens) FROM llm_calls WHERE counted") == 60


def test_a_worker_that_outlives_its_turn_does_not_go_on_believing_in_it(flow: Flow) -> None:
    jobs: queue.Queue[Callable[[], Any] | None] = queue.Queue()
    done: queue.Queue[Any] = queue.Queue()

    def serve() -> None:
        while (job := jobs.get()) is not None:
            done.put(job())

    worker = threading.Thread(target=serve)

    def ask(job: Callable[[], Any]) -> Any:
        jobs.put(job)
        return done.get(timeout=120)

    with spanflow.engagement("first"), spanflow.agent("a"), spanflow.step("starts it"):
        worker.start()
        ask(functools.partial(tool, "within"))
    ask(functools.partial(tool, "after"))
    ask(spanflow.step("later")(functools.partial(tool, "in its own")))
    with spanflow.engagement("second"), spanflow.step("waits"):
        ask(functools.partial(tool, "of nobody"))
    with trace.get_tracer("mine").start_as_current_span("mine"):
        pass
    jobs.put(None)
    worker.join()
    assert flow.sql(
        """SELECT r.name, e.name, r.step_id IS NOT NULL, agent_name FROM records r
           LEFT JOIN engagements e USING (engagement_id)
           WHERE kind = 'tool' ORDER BY r.started_ns"""
    ) == [
        ("within", "first", True, "a"),
        ("after", None, False, None),
        ("in its own", "later", True, None),
        ("of nobody", None, False, None),
    ]
    traces = {span.name: span.context.trace_id for span in flow.spans if span.context}
    assert traces["step later"] != traces["step starts it"]
    assert guard.counts() == {}


def test_workers_of_a_pool_do_not_remember_who_started_them(flow: Flow) -> None:
    with ThreadPoolExecutor(1) as pool:
        with spanflow.engagement("first"), spanflow.step("starts it"):
            pool.submit(tool, "within").result()
        pool.submit(tool, "of nobody").result()
        with spanflow.engagement("second"), spanflow.step("goes on"):
            pool.submit(tool, "there").result()
    assert flow.sql("SELECT name, step_name FROM tool_calls ORDER BY started_at") == [
        ("within", "starts it"),
        ("of nobody", None),
        ("there", "goes on"),
    ]


def test_a_left_out_run_leaves_out_what_its_executor_does(flow: Flow) -> None:
    def node(state: Any) -> Any:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(spanflow.step("hidden")(lambda: None)).result()
        return {"log": ["x"]}

    left_out = {"metadata": {"spanflow_enabled": False}}
    chain("a", a=node).invoke({"log": []}, left_out)
    chain("b").invoke({"log": []})
    assert flow.steps() == [("b", "completed")]


def test_threads_in_a_graphs_node_are_part_of_its_step(flow: Flow) -> None:
    def node(state: Any) -> Any:
        with ThreadPool(2) as threads, ThreadPoolExecutor(2) as pool:
            threads.map(tool, ["by pool of threads"] * 4)
            list(pool.map(tool, ["by executor"] * 4))
        return {"log": ["x"]}

    chain("a", a=node).invoke({"log": []})
    assert flow.sql(
        "SELECT step_name, name, count(*) FROM tool_calls GROUP BY ALL ORDER BY ALL"
    ) == [("a", "by executor", 4), ("a", "by pool of threads", 4)]


# -- what is wrapped -------------------------------------------------------------------------------


def test_what_was_wrapped_is_put_back(flow: Flow) -> None:
    with spanflow.engagement("e"):
        wrapped = vars(threading.Thread)["start"], vars(ThreadPoolExecutor)["submit"]
    spanflow.uninstrument()
    assert (wrapped[0].__wrapped__, wrapped[1].__wrapped__) == (
        vars(threading.Thread)["start"],
        vars(ThreadPoolExecutor)["submit"],
    )


def test_errors_results_and_misuse_are_the_pools_own(flow: Flow, pool: Any) -> None:
    with spanflow.engagement("e"), spanflow.step("s"):
        assert pool.submit(divmod, 7, 2).result() == (3, 1)
        assert pool.submit(dict, fn=1, self=2).result() == {"fn": 1, "self": 2}
        with pytest.raises(ZeroDivisionError):
            pool.submit(divmod, 1, 0).result()
        with pytest.raises(TypeError):
            pool.submit()
        thread = threading.Thread(target=lambda: None)
        thread.start()
        thread.join()
        assert "run" not in vars(thread)
        with pytest.raises(RuntimeError):
            thread.start()
