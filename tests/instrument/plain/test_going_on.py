"""A resume without ``with``: what follows in the block that was paused is the new turn."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from typing import TYPE_CHECKING

import pytest
from opentelemetry import trace

import spanflow
from spanflow import guard
from spanflow.capture import scope as scopes

if TYPE_CHECKING:
    from conftest import Flow

TURNS = "SELECT kind, outcome, resolution FROM turns ORDER BY started_at"
WAITS = "SELECT label, resolution, is_open FROM waits ORDER BY asked_at"
STEPS = (
    "SELECT kind, path, status FROM steps JOIN turns USING (engagement_id, turn_id)"
    " ORDER BY steps.started_at"
)
LOGS = (
    "SELECT events.name, turns.kind FROM events JOIN turns USING (turn_id)"
    " WHERE events.kind = 'log'"
)
NEW_THEN_RESUMED = [("new", "paused", None), ("resume", "completed", "answered")]


def answered(engagement_id: str | None, resolution: str | None = None) -> None:
    """Answer as a function of an app's would: what `resume` returned is gone at once."""
    assert engagement_id is not None
    spanflow.resume(engagement_id, resolution=resolution)


def test_what_follows_the_answer_is_the_new_turn(flow: Flow) -> None:
    with spanflow.engagement("booking", id="g1", goals=["pay"]) as e:
        with spanflow.step("confirm"):
            spanflow.pause("approval")
        answered(e.engagement_id, "approved")
        with spanflow.step("pay"):
            spanflow.llm_call("m", input_tokens=3, output_tokens=4)
        spanflow.log("booked")
    assert flow.sql(TURNS) == [("new", "paused", None), ("resume", "completed", "approved")]
    assert flow.sql(WAITS) == [("approval", "approved", False)]
    assert flow.sql(STEPS) == [("new", "confirm", "waiting"), ("resume", "pay", "completed")]
    assert flow.sql("SELECT total_tokens FROM turns ORDER BY started_at") == [(0,), (7,)]
    assert flow.sql("SELECT status, goal FROM engagements") == [("completed", "pay")]
    assert flow.sql(LOGS) == [("booked", "resume")]
    assert scopes.live() is None
    assert guard.counts() == {}


def test_the_answer_may_come_inside_the_step_that_asked(flow: Flow) -> None:
    tracer = trace.get_tracer("the app's")
    with spanflow.engagement("booking", id="g2"):
        with spanflow.step("outer"):
            with spanflow.step("confirm"):
                spanflow.pause("approval")
                answered("g2")
                with spanflow.step("told"), tracer.start_as_current_span("their own"):
                    pass
            with spanflow.step("beside"), tracer.start_as_current_span("their own"):
                pass
        with tracer.start_as_current_span("their own"):
            pass
    assert flow.sql(TURNS) == NEW_THEN_RESUMED
    assert flow.sql(STEPS) == [
        ("new", "outer", "waiting"),
        ("new", "outer/confirm", "waiting"),
        ("resume", "told", "completed"),
        ("resume", "beside", "completed"),
    ]
    [first, second] = flow.named("invoke_workflow booking")
    assert first.context is not None
    assert second.context is not None
    assert first.context.trace_id != second.context.trace_id
    assert {link.context.span_id for link in second.links} >= {first.context.span_id}
    for span in flow.named("their own"):
        assert span.attributes is not None
        assert span.context is not None
        assert span.context.trace_id == second.context.trace_id
        assert span.attributes["spanflow.turn.id"] == f"{second.context.span_id:016x}"


async def test_tasks_stand_in_the_new_turn(flow: Flow) -> None:
    async def work(name: str) -> None:
        async with spanflow.step(name):
            await asyncio.sleep(0)

    async with spanflow.engagement("booking", id="g3"):
        await work("ask")
        spanflow.pause("approval")
        await asyncio.sleep(0)
        answered("g3")
        await asyncio.gather(work("a"), work("b"), asyncio.to_thread(spanflow.log, "in a thread"))
    assert flow.sql(TURNS) == NEW_THEN_RESUMED
    assert sorted(flow.sql(STEPS)) == [
        ("new", "ask", "completed"),
        ("resume", "a", "completed"),
        ("resume", "b", "completed"),
    ]
    assert flow.sql(LOGS) == [("in a thread", "resume")]


def test_an_answer_held_by_a_name_goes_on_as_well(flow: Flow) -> None:
    with spanflow.engagement("booking", id="g4") as e:
        spanflow.pause("approval")
        held = spanflow.resume("g4")
        with spanflow.step("pay"):
            pass
    assert held.turn_id != e.turn_id
    assert flow.sql("SELECT turn_id FROM turns ORDER BY started_at") == [
        (e.turn_id,),
        (held.turn_id,),
    ]
    assert flow.sql(TURNS) == NEW_THEN_RESUMED
    del held
    gc.collect()
    assert len(flow.sql(TURNS)) == 2


def test_what_follows_one_that_is_entered_is_its_turn_too(flow: Flow) -> None:
    with spanflow.engagement("booking", id="g5", goals=["thanks"]):
        with spanflow.step("confirm"):
            spanflow.pause("approval")
        with spanflow.resume("g5"), spanflow.step("pay"):
            pass
        with spanflow.step("thanks"):
            spanflow.llm_call("m", total_tokens=5)
    assert flow.sql(STEPS) == [
        ("new", "confirm", "waiting"),
        ("resume", "pay", "completed"),
        ("resume", "thanks", "completed"),
    ]
    assert flow.sql(TURNS) == NEW_THEN_RESUMED
    assert flow.sql("SELECT status, total_tokens FROM engagements") == [("completed", 5)]
    assert guard.counts() == {}


def test_one_that_fails_ends_with_its_own_block(flow: Flow) -> None:
    def refuse() -> None:
        with spanflow.resume("g12"), spanflow.step("pay"):
            raise LookupError

    with spanflow.engagement("booking", id="g12"):
        spanflow.pause("approval")
        with pytest.raises(LookupError):
            refuse()
    assert flow.sql("SELECT kind, outcome FROM turns ORDER BY started_at") == [
        ("new", "paused"),
        ("resume", "failed"),
    ]


def test_what_fails_afterwards_fails_the_new_turn(flow: Flow) -> None:
    @spanflow.step
    def pay() -> None:
        raise LookupError

    def book() -> None:
        with spanflow.engagement("booking", id="g6"):
            spanflow.pause("approval")
            answered("g6")
            pay()

    with pytest.raises(LookupError):
        book()
    assert flow.sql("SELECT kind, outcome FROM turns ORDER BY started_at") == [
        ("new", "paused"),
        ("resume", "failed"),
    ]
    assert flow.sql("SELECT status, dropped_at FROM engagements") == [("failed", "pay")]


def test_a_conversation_in_one_block_keeps_no_turn_that_is_over(flow: Flow) -> None:
    ended: list[weakref.ref[object]] = []
    with spanflow.engagement("chat", id="g7"):
        for i in range(30):
            with spanflow.step("ask"):
                spanflow.pause(f"q{i}")
                answered("g7")
            here = scopes.live()
            assert here is not None
            ended.append(weakref.ref(here.turn))
        del here
        gc.collect()
        # The first one, which the block was entered for, and the one that goes on.
        assert sum(ref() is not None for ref in ended[:-1]) == 0
    assert len(flow.sql(TURNS)) == 31
    assert flow.one("SELECT count(*) FROM waits WHERE resolution = 'answered'") == 30


def test_two_threads_answer_once_in_the_block(flow: Flow) -> None:
    with spanflow.engagement("booking", id="g8"):
        spanflow.pause("approval")
        both = [threading.Thread(target=answered, args=("g8", word)) for word in ("yes", "no")]
        for thread in both:
            thread.start()
        for thread in both:
            thread.join()
    assert sorted(flow.sql("SELECT label, resolution IN ('yes', 'no'), is_open FROM waits")) == [
        ("approval", True, False)
    ]
    assert flow.one("SELECT count(*) FROM turns WHERE outcome = 'completed'") in {1, 2}
    assert len(scopes.turns) == 0


def test_anywhere_else_the_answer_is_a_turn_that_is_over(flow: Flow) -> None:
    with spanflow.engagement("booking", id="g9"), spanflow.step("confirm"):
        spanflow.pause("approval")
    with spanflow.engagement("desk", id="another"), spanflow.step("hear"):
        answered("g9", "approved")
        spanflow.log("heard")
    assert flow.sql("SELECT name, kind, outcome FROM turns ORDER BY ALL") == [
        ("booking", "new", "paused"),
        ("booking", "resume", "completed"),
        ("desk", "new", "completed"),
    ]
    assert flow.sql(WAITS) == [("approval", "approved", False)]
    assert flow.sql(LOGS) == [("heard", "new")]
    assert flow.one("SELECT s.name FROM events JOIN steps s USING (step_id) WHERE kind = 'log'")
    with spanflow.engagement("booking", id="g9"), spanflow.step("pay"):
        pass
    assert flow.sql("SELECT status, turns FROM engagements WHERE engagement_id = 'g9'") == [
        ("completed", 3)
    ]


def test_a_second_answer_in_the_block_of_the_first(flow: Flow) -> None:
    with spanflow.engagement("booking", id="g11"):
        spanflow.pause("date")
        with spanflow.resume("g11"):
            with spanflow.step("confirm"):
                spanflow.pause("price")
                answered("g11", "fair")
            with spanflow.step("pay"):
                pass
    assert scopes.live() is None
    assert flow.sql(TURNS) == [
        ("new", "paused", None),
        ("resume", "paused", "answered"),
        ("resume", "completed", "fair"),
    ]
    assert flow.sql(STEPS) == [("resume", "confirm", "waiting"), ("resume", "pay", "completed")]


def test_inside_the_run_that_goes_on_it_says_nothing(flow: Flow) -> None:
    with spanflow.engagement("booking", id="g10"):
        answered("g10")
        with spanflow.step("pay"):
            pass
    assert flow.sql("SELECT kind, outcome FROM turns") == [("new", "completed")]
    assert flow.sql(STEPS) == [("new", "pay", "completed")]
