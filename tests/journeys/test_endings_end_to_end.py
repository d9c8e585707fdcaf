"""How journeys end, or do not: goals, silence, failures, cancellation, and users who come back."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from graphs import State, chain
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command, interrupt

import spanflow

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Flow

THREAD: Any = {"configurable": {"thread_id": "t"}}
STATUS = "SELECT status, dropped_at, abandon_reason FROM engagements(as_of := TIMESTAMP '{}')"


def in_minutes(minutes: float) -> str:
    """An instant, so long from now, as SQL reads it."""
    return f"{datetime.now(UTC) + timedelta(minutes=minutes):%Y-%m-%d %H:%M:%S.%f}"


def thread_of(*names: str, **nodes: Any) -> Any:
    return chain(*names, **nodes).copy(update={"checkpointer": InMemorySaver()})


def ask(state: State) -> State:
    return {"log": [interrupt({"awaiting": "confirm"})]}


def fail(state: State) -> State:
    msg = "card refused"
    raise ValueError(msg)


def history(flow: Flow, **given: str) -> list[tuple[str, str | None, str | None]]:
    """Statuses with why and where they were left, as known at an instant."""
    engagement = flow.one("SELECT engagement_id FROM engagements")
    options = "".join(f", {name} := TIMESTAMP '{value}'" for name, value in given.items())
    return flow.sql(
        f"SELECT status, abandon_reason, dropped_at FROM status_history('{engagement}'{options}) "
        "ORDER BY since"
    )


def test_a_goal_missed_without_a_thread_is_abandoned_at_once(
    flow_with: Callable[..., Flow],
) -> None:
    flow = flow_with(goals=["submitted"])
    shop(buys=False).invoke({"log": []})
    assert flow.sql(STATUS.format(in_minutes(0))) == [("abandoned", "compare", "left")]


def test_on_a_thread_a_goal_missed_is_abandoned_after_silence(
    flow_with: Callable[..., Flow],
) -> None:
    flow = flow_with(goals=["submitted"])
    app = shop(buys=False).copy(update={"checkpointer": InMemorySaver()})
    app.invoke({"log": []}, THREAD)
    assert flow.sql(STATUS.format(in_minutes(0))) == [("active", None, None)]
    assert flow.sql(STATUS.format(in_minutes(29))) == [("active", None, None)]
    assert flow.sql(STATUS.format(in_minutes(31))) == [("abandoned", "compare", "left")]


def shop(*, buys: bool) -> Any:
    """A graph that has the goal `submitted`, and gets there or not."""
    from langgraph.graph import END, START, StateGraph

    built = StateGraph(State)
    built.add_node("compare", lambda state: {"log": ["compare"]})
    built.add_node("submitted", lambda state: {"log": ["submitted"]})
    built.add_edge(START, "compare")
    built.add_conditional_edges(
        "compare", lambda state: "submitted" if buys else END, ["submitted", END]
    )
    return built.compile()


def test_a_goal_reached_and_no_goals_at_all_are_completed(flow_with: Callable[..., Flow]) -> None:
    flow = flow_with(goals=["submitted"])
    shop(buys=True).invoke({"log": []})
    assert flow.sql(STATUS.format(in_minutes(0))) == [("completed", None, None)]
    chain("other").invoke({"log": []})  # has no such goal
    assert flow.sql("SELECT DISTINCT status FROM engagements") == [("completed",)]


def test_a_goal_reached_before_the_pause_holds_to_the_end(flow_with: Callable[..., Flow]) -> None:
    flow = flow_with(goals=["submitted"])
    app = thread_of("submitted", "ask", "feedback", ask=ask)
    app.invoke({"log": []}, THREAD)
    assert flow.sql("SELECT status, goal FROM engagements") == [("completed", "submitted")]
    app.invoke(Command(resume="yes"), THREAD)
    assert flow.sql("SELECT status, goal, dropped_at, turns FROM engagements") == [
        ("completed", "submitted", None, 2)
    ]
    assert flow.sql(STATUS.format(in_minutes(60 * 24))) == [("completed", None, None)]
    assert [status for status, *_ in history(flow)] == [
        "active",
        "completed",
        "active",
        "completed",
    ]


def test_a_failure_before_the_goal_is_a_failure(flow_with: Callable[..., Flow]) -> None:
    flow = flow_with(goals=["submitted"])
    app = chain("pay", "submitted", pay=fail)
    with pytest.raises(ValueError, match="refused"):
        app.invoke({"log": []})
    assert flow.sql("SELECT status, dropped_at, abandon_reason, errors FROM engagements") == [
        ("failed", "pay", None, 1)
    ]


def test_a_goal_that_raised_was_not_reached(flow_with: Callable[..., Flow]) -> None:
    flow = flow_with(goals=["submitted"])
    with pytest.raises(ValueError, match="refused"):
        chain("submitted", submitted=fail).invoke({"log": []})
    assert flow.sql("SELECT status, goal, dropped_at FROM engagements") == [
        ("failed", None, "submitted")
    ]


def test_a_pause_nobody_answers_is_abandoned_and_taken_back(flow: Flow) -> None:
    app = thread_of("ask", "done", ask=ask)
    app.invoke({"log": []}, THREAD)
    assert flow.sql(STATUS.format(in_minutes(29))) == [("paused", None, None)]
    assert flow.sql(STATUS.format(in_minutes(31))) == [("abandoned", "ask", "left")]
    assert history(flow, as_of=in_minutes(31)) == [
        ("active", None, None),
        ("paused", None, None),
        ("abandoned", "left", "ask"),
    ]
    waiting = "SELECT is_open FROM waits(as_of := TIMESTAMP '{}')"
    assert flow.sql(waiting.format(in_minutes(31))) == [(True,)]


def test_a_user_who_returns_after_the_silence_is_active_again(flow: Flow) -> None:
    app = thread_of("ask", "done", ask=ask)
    app.invoke({"log": []}, THREAD)
    paused = in_minutes(0)
    time.sleep(0.3)
    app.invoke(Command(resume="yes"), THREAD)
    engagement = flow.one("SELECT engagement_id FROM engagements")
    changes = flow.sql(
        "SELECT status, abandon_reason, dropped_at "
        f"FROM status_history('{engagement}', idle_after := INTERVAL '100 milliseconds') "
        "ORDER BY since"
    )
    assert changes[:5] == [
        ("active", None, None),
        ("paused", None, None),
        ("abandoned", "left", "ask"),
        ("active", None, None),
        ("completed", None, None),
    ]
    assert flow.sql(STATUS.format(paused)) == [("paused", None, None)]
    assert flow.sql("SELECT status FROM engagements") == [("completed",)]


async def test_a_cancelled_run_is_cancelled_and_then_interrupted(flow: Flow) -> None:
    started = asyncio.Event()

    async def slow(state: State) -> State:
        started.set()
        await asyncio.sleep(60)
        return {"log": []}

    task = asyncio.create_task(thread_of("a", "slow", slow=slow).ainvoke({"log": []}, THREAD))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert flow.sql("SELECT outcome, ended_at IS NOT NULL FROM turns") == [("cancelled", True)]
    assert flow.steps() == [("a", "completed"), ("slow", "cancelled")]
    assert flow.sql("SELECT count(*) FROM steps WHERE ended_at IS NULL") == [(0,)]
    assert flow.sql(STATUS.format(in_minutes(0))) == [("active", None, None)]
    [(status, _, reason)] = flow.sql(STATUS.format(in_minutes(31)))
    assert (status, reason) == ("abandoned", "interrupted")


def test_a_stream_that_was_left_ends_and_the_thread_goes_on(flow: Flow) -> None:
    app = thread_of("a", "b")
    for _ in app.stream({"log": []}, THREAD):
        break
    assert flow.sql("SELECT outcome FROM turns") == [("left",)]
    [(status, _, reason)] = flow.sql(STATUS.format(in_minutes(31)))
    assert (status, reason) == ("abandoned", "interrupted")
    app.invoke({"log": ["anew"]}, THREAD)
    assert flow.sql("SELECT kind, outcome FROM turns ORDER BY started_at") == [
        ("new", "left"),
        ("message", "completed"),
    ]
    assert flow.sql("SELECT status, turns FROM engagements") == [("completed", 2)]


@pytest.mark.parametrize(("reason", "minutes"), [("too expensive", 0), (None, 0)])
def test_who_gives_up_is_abandoned_at_once(flow: Flow, reason: str | None, minutes: int) -> None:
    def leave(state: State) -> State:
        spanflow.gave_up(reason)
        return {"log": ["left"]}

    thread_of("compare", "leave", leave=leave).invoke({"log": []}, THREAD)
    [(status, _, why)] = flow.sql(STATUS.format(in_minutes(minutes)))
    assert (status, why) == ("abandoned", "gave_up")


def test_an_answer_that_says_expired_ends_the_journey(flow: Flow) -> None:
    app = thread_of("ask", ask=ask)
    app.invoke({"log": []}, THREAD)
    app.invoke(
        Command(resume="timeout"), {**THREAD, "metadata": {"spanflow_resolution": "expired"}}
    )
    assert flow.sql("SELECT resolution FROM waits") == [("expired",)]
    [(status, _, why)] = flow.sql(STATUS.format(in_minutes(0)))
    assert (status, why) == ("abandoned", "expired")


def test_a_retry_after_a_failure_tells_what_it_cost(flow: Flow) -> None:
    from graphs import llm

    model, broken = llm(20, 10), [True]

    def pay(state: State) -> State:
        model.invoke("pay")
        if broken:
            broken.clear()
            fail(state)
        return {"log": ["paid"]}

    app = thread_of("a", "pay", pay=pay)
    with pytest.raises(ValueError, match="refused"):
        app.invoke({"log": []}, THREAD)
    assert flow.sql("SELECT status, dropped_at FROM engagements") == [("failed", "pay")]
    app.invoke(None, THREAD)
    assert flow.sql("SELECT kind, outcome, retried_tokens FROM turns ORDER BY started_at") == [
        ("new", "failed", 0),
        ("retry", "completed", 30),
    ]
    assert flow.sql(
        "SELECT status, errors, total_tokens, retried_tokens, replayed_tokens FROM engagements"
    ) == [("completed", 1, 60, 30, 0)]
    assert flow.sql("SELECT path, visit, status, replayed FROM steps ORDER BY started_at") == [
        ("a", 1, "completed", False),
        ("pay", 1, "failed", False),
        ("pay", 1, "completed", True),
    ]
