"""Engagements of plain Python: whose they are, how they end, and what may stand inside what."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import TYPE_CHECKING, Any

import pytest
from graphs import calling, chain, llm
from opentelemetry import trace

import spanflow
from spanflow import guard
from spanflow.capture import scope

if TYPE_CHECKING:
    from conftest import Flow

SEEN = "SELECT engagement_id, name, status, goal, dropped_at, turns FROM engagements ORDER BY ALL"


def nothing_stands() -> bool:
    """Whether no block of ours left anything behind in this context."""
    return scope.current.get() is None and trace.get_current_span() is trace.INVALID_SPAN


def test_a_block_is_one_turn_with_all_that_was_said_of_it(flow: Flow) -> None:
    with spanflow.engagement(
        "support", id="case-1", user_id="ada", session_id="s-1", metadata={"tier": "pro", "n": 1}
    ) as e:
        assert scope.live() is not None
    assert (e.engagement_id, len(e.turn_id or "")) == ("case-1", 16)
    assert flow.sql(
        "SELECT name, status, user_id, session_id, metadata, turns, steps, total_tokens, goal"
        " FROM engagements WHERE engagement_id = 'case-1'"
    ) == [("support", "completed", "ada", "s-1", '{"tier":"pro","n":1}', 1, 0, 0, None)]
    assert flow.sql("SELECT turn_id, kind, outcome, graph_version FROM turns") == [
        (e.turn_id, "new", "completed", None)
    ]
    [span] = flow.spans
    assert span.name == "invoke_workflow support"
    assert span.attributes is not None
    assert span.attributes["spanflow.engagement.id"] == "case-1"
    assert span.attributes["gen_ai.workflow.name"] == "support"
    assert nothing_stands()


def test_without_an_id_each_block_is_an_engagement_of_its_own(flow: Flow) -> None:
    made = []
    for _ in range(3):
        with spanflow.engagement("support") as e:
            made.append(e.engagement_id)
    assert len(set(made)) == 3
    assert {row[0] for row in flow.sql(SEEN)} == set(made)


async def test_async_blocks_are_the_same(flow: Flow) -> None:
    async with spanflow.engagement("support", id="a") as e, spanflow.step("greet") as s:
        await asyncio.sleep(0)
        async with spanflow.llm_call("m") as call:
            call.set_usage(input_tokens=1, output_tokens=2)
    assert e.engagement_id == "a"
    assert flow.sql("SELECT step_id, total_tokens FROM steps") == [(s.step_id, 3)]
    assert nothing_stands()


def test_the_same_id_again_is_the_next_turn(flow: Flow) -> None:
    for step in ("ask", "answer"):
        with spanflow.engagement("support", id="twice"), spanflow.step(step):
            pass
    assert flow.sql("SELECT kind, outcome FROM turns ORDER BY started_at") == [
        ("new", "completed"),
        ("message", "completed"),
    ]
    assert flow.sql(SEEN) == [("twice", "support", "completed", None, None, 2)]
    first, second = flow.named("invoke_workflow support")
    [link] = second.links
    assert link.context.span_id == first.context.span_id
    assert flow.one("SELECT previous_turn_id FROM turns WHERE kind = 'message'") == (
        f"{first.context.span_id:016x}"
    )


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("エンゲージ🎌", "エンゲージ🎌"),
        ('it\'s "quoted"; DROP TABLE', 'it\'s "quoted"; DROP TABLE'),
        ("NUL\0inside", "NUL\ufffdinside"),
        (17, "17"),
    ],
)
def test_any_id_and_name_come_back(flow: Flow, given: Any, kept: str) -> None:
    with spanflow.engagement("エンゲージ🎌\0", id=given) as e, spanflow.step("検索🔍"):
        spanflow.tool_call("検索🔍", result="x")
    assert e.engagement_id == kept
    assert flow.sql("SELECT engagement_id, name FROM engagements") == [(kept, "エンゲージ🎌\0")]
    assert flow.one("SELECT path FROM steps") == flow.one("SELECT name FROM tool_calls") == "検索🔍"


def test_an_id_that_is_too_long_is_cut_and_still_its_own(flow: Flow) -> None:
    for last in "ab":
        with spanflow.engagement("x", id="long" * 5_000 + last):
            spanflow.log("here", engagement_id="long" * 5_000 + last)
    for last in "ab":
        with spanflow.engagement("x", id="é" * 100 + last) as e:
            spanflow.log("here", engagement_id="é" * 100 + last)
        assert e.engagement_id is not None
        assert len(e.engagement_id.encode()) <= 128
    # What differs only past the 4,096 characters that are looked at is one.
    assert flow.one("SELECT count(DISTINCT engagement_id) FROM engagements") == 3
    assert flow.one("SELECT count(*) FROM events WHERE kind = 'log'") == 4


def test_one_inside_another_of_no_other_id_is_the_same_turn(flow: Flow) -> None:
    with spanflow.engagement("outer", id="o") as outer:
        with spanflow.engagement("inner") as inner, spanflow.step("a"):
            pass
        with spanflow.engagement("inner", id="o") as same, spanflow.step("b"):
            pass
        with spanflow.step("c"):
            pass
    assert inner.turn_id == same.turn_id == outer.turn_id
    assert inner.engagement_id == "o"
    assert flow.sql(SEEN) == [("o", "outer", "completed", None, None, 1)]
    assert flow.steps() == [("a", "completed"), ("b", "completed"), ("c", "completed")]


def test_one_inside_another_of_another_id_is_its_own(flow: Flow) -> None:
    with spanflow.engagement("outer", id="o"), spanflow.step("a"):
        with spanflow.engagement("inner", id="i"), spanflow.step("b"):
            spanflow.goal("found")
        with spanflow.step("c"):
            pass
    assert flow.sql("SELECT engagement_id, path FROM steps ORDER BY started_at") == [
        ("o", "a"),
        ("i", "b"),
        ("o", "a/c"),
    ]
    assert flow.sql(SEEN) == [
        ("i", "inner", "completed", "found", None, 1),
        ("o", "outer", "completed", None, None, 1),
    ]


def test_two_in_one_task_by_turns(flow: Flow) -> None:
    """Blocks of two engagements, left in the order in which they were entered."""
    first, second = spanflow.engagement("x", id="1"), spanflow.engagement("y", id="2")
    first.__enter__()
    second.__enter__()
    with spanflow.step("one", engagement_id="1"):
        spanflow.log("inside one")
        with spanflow.step("two", engagement_id="2"):
            spanflow.log("inside two")
            spanflow.llm_call("m", input_tokens=1, output_tokens=0, engagement_id="1")
    first.__exit__(None, None, None)
    with spanflow.step("three"):
        pass
    second.__exit__(None, None, None)
    assert nothing_stands()
    assert flow.sql("SELECT engagement_id, path, status FROM steps ORDER BY started_at") == [
        ("1", "one", "completed"),
        ("2", "two", "completed"),
        ("2", "three", "completed"),
    ]
    assert flow.sql("SELECT engagement_id, name FROM events WHERE kind = 'log' ORDER BY ALL") == [
        ("1", "inside one"),
        ("2", "inside two"),
    ]
    assert flow.sql("SELECT engagement_id, total_tokens FROM engagements ORDER BY ALL") == [
        ("1", 1),
        ("2", 0),
    ]


def test_a_task_that_was_begun_inside_keeps_its_place(flow: Flow) -> None:
    """What a copied context brings along is the copy's own, however its origin goes on."""

    async def work() -> None:
        await asyncio.sleep(0.02)
        with spanflow.step("late"):
            pass

    async def main() -> None:
        with spanflow.engagement("x", id="1"):
            with spanflow.step("begins"):
                task = asyncio.ensure_future(work())
            await task

    asyncio.run(main())
    assert flow.steps() == [("begins", "completed"), ("begins/late", "completed")]


def test_a_graph_inside_is_part_of_the_turn(flow: Flow) -> None:
    with spanflow.engagement("desk", id="d"):
        with spanflow.step("before"):
            pass
        chain("a", "b", a=calling(llm(3, 4))).invoke({"log": []})
        with spanflow.step("around"):
            chain("c").invoke({"log": []})
    assert flow.sql(
        "SELECT engagement_id, turns, steps, total_tokens, status FROM engagements"
    ) == [("d", 1, 5, 7, "completed")]
    assert [path for path, _ in flow.steps()] == ["before", "a", "b", "around", "around/c"]


def test_inside_a_node_it_is_the_graphs_run(flow: Flow) -> None:
    def node(state: Any) -> Any:
        with spanflow.engagement("mine", user_id="nobody") as e:
            spanflow.log("noted", turn=e.turn_id)
        return {"log": ["x"]}

    chain("a", a=node).invoke({"log": []}, {"metadata": {"user_id": "ada"}})
    assert flow.sql("SELECT user_id, turns, steps FROM engagements") == [("ada", 1, 1)]
    payload = flow.one("SELECT payload FROM events WHERE kind = 'log'")
    assert json.loads(payload) == {"turn": flow.one("SELECT turn_id FROM turns")}


def test_threads_say_which_they_mean(flow: Flow) -> None:
    """A thread stands where it was started; with an id it stands where that says."""

    def work(mine: str) -> None:
        with spanflow.step("work", engagement_id=mine) as s:
            spanflow.log("inside")
            spanflow.llm_call("m", input_tokens=1, output_tokens=1)
            spanflow.log("told by id", step_id=s.step_id)

    def loose() -> None:
        with spanflow.step("loose"):
            pass

    with spanflow.engagement("x", id="x"), spanflow.engagement("y", id="y"):
        threads = [threading.Thread(target=work, args=(name,)) for name in "xyxyxy"]
        threads.append(threading.Thread(target=loose))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert flow.sql(
        "SELECT engagement_id, count(*), sum(total_tokens) FROM steps WHERE path = 'work'"
        " GROUP BY ALL ORDER BY ALL"
    ) == [("x", 3, 6), ("y", 3, 6)]
    assert flow.one("SELECT count(*) FROM events WHERE kind = 'log'") == 12
    assert flow.sql("SELECT engagement_id FROM steps WHERE path = 'loose'") == [("y",)]
    assert flow.one("SELECT count(*) FROM engagements") == 2
    assert guard.counts() == {}
