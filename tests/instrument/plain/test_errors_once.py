"""An error has one event, at the innermost step that it passes, whoever raises it again."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import weakref
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TYPE_CHECKING

import pytest
from opentelemetry import trace

import spanflow
from spanflow.capture import scope as scopes

if TYPE_CHECKING:
    from conftest import Flow


class BoomError(Exception):
    """One that can be referred to weakly, as Python's own cannot."""


KINDS = pytest.mark.parametrize("kind", [BoomError, ValueError])


def errors(flow: Flow) -> list[tuple[str | None, str]]:
    """Path and message of each event of an error; and the engagement counts them."""
    rows = flow.sql(
        "SELECT path, e.payload->>'message' FROM events e LEFT JOIN steps s USING (step_id)"
        " WHERE e.kind = 'error' ORDER BY ALL"
    )
    assert flow.sql("SELECT sum(errors)::INTEGER FROM engagements") == [(len(rows),)]
    return rows


def fail(kind: type[Exception], message: str) -> None:
    raise kind(message)


@KINDS
def test_what_ends_a_turn_after_another_error_was_caught_counts(
    flow: Flow, kind: type[Exception]
) -> None:
    def serve() -> None:
        with spanflow.engagement("desk"):
            with contextlib.suppress(kind), spanflow.step("ask"):
                fail(kind, "caught")
            fail(kind, "not caught")

    with pytest.raises(kind):
        serve()
    assert errors(flow) == [("ask", "caught"), (None, "not caught")]


@KINDS
def test_what_a_step_let_out_ends_the_turn_without_counting_again(
    flow: Flow, kind: type[Exception]
) -> None:
    def serve() -> None:
        with spanflow.engagement("desk"):
            with contextlib.suppress(kind), spanflow.step("first"):
                fail(kind, "caught")
            with spanflow.step("outer"), spanflow.step("inner"):
                fail(kind, "not caught")

    with pytest.raises(kind):
        serve()
    assert errors(flow) == [("first", "caught"), ("outer/inner", "not caught")]


@KINDS
def test_of_several_that_fail_side_by_side_the_first_comes_up(
    flow: Flow, kind: type[Exception]
) -> None:
    async def look_up(area: int) -> None:
        with spanflow.step("look up"):
            raise kind(str(area))

    async def main() -> None:
        async with spanflow.engagement("desk"), spanflow.step("fan out"):
            found = await asyncio.gather(*map(look_up, range(5)), return_exceptions=True)
            raise next(one for one in found if isinstance(one, Exception))

    with pytest.raises(kind):
        asyncio.run(main())
    assert errors(flow) == [("fan out/look up", str(n)) for n in range(5)]
    assert flow.sql("SELECT status, error_type FROM steps WHERE path = 'fan out'") == [
        ("failed", kind.__name__)
    ]


def test_more_than_can_be_held_come_up_from_threads(flow: Flow) -> None:
    def look_up(area: int) -> None:
        with spanflow.step("look up"):
            fail(BoomError, str(area))

    def serve() -> None:
        with spanflow.engagement("desk"), ThreadPoolExecutor(2) as pool:
            asked = [pool.submit(look_up, n) for n in range(40)]
            wait(asked)
            asked[0].result()

    with pytest.raises(BoomError):
        serve()
    assert len(errors(flow)) == 40


def test_a_group_of_errors_that_all_came_up_is_none_of_its_own(flow: Flow) -> None:
    async def look_up(name: str) -> None:
        with spanflow.step(name):
            await asyncio.sleep(0)
            fail(BoomError, name)

    async def main(*, also: bool) -> None:
        async with spanflow.engagement("desk"), spanflow.step("par"), asyncio.TaskGroup() as group:
            group.create_task(look_up("a"))
            if also:
                fail(BoomError, "of the group's own")

    for also in (False, True):
        with pytest.raises(ExceptionGroup):
            asyncio.run(main(also=also))
    # The second group has one that nobody told of; its task never began.
    assert [path for path, _ in errors(flow)] == ["par", "par/a"]


def test_an_agents_error_that_ends_a_block_counts_once(flow: Flow) -> None:
    tracer = trace.get_tracer("somebody.else")
    agent = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "planner"}
    with (
        pytest.raises(BoomError),
        spanflow.engagement("desk"),
        tracer.start_as_current_span("invoke_agent planner", attributes=agent),
    ):
        fail(BoomError, "no")
    assert errors(flow) == [("planner", "no")]


class Large:
    """Something of the app's that only its own code may keep alive."""


@KINDS
def test_what_failed_is_held_no_longer_than_its_turn(flow: Flow, kind: type[Exception]) -> None:
    seen: list[weakref.ref[Large]] = []

    def serve() -> None:
        large = Large()
        seen.append(weakref.ref(large))
        fail(kind, "caught")

    with spanflow.engagement("desk"):
        kept = scopes.live()  # as a task would that outlives the turn
        with contextlib.suppress(kind), spanflow.step("ask"):
            serve()
    gc.collect()
    assert kept is not None
    assert seen[0]() is None
    assert errors(flow) == [("ask", "caught")]
