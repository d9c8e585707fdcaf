"""The scalar that ties a thread's turns: read back as written, searched for within bounds."""

from __future__ import annotations

import gc
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langgraph.checkpoint.memory import InMemorySaver

from spanflow import semconv
from spanflow.capture import lineage
from spanflow.capture.lineage import (
    Lineage,
    Origin,
    Read,
    claim,
    decode,
    encode,
    forget,
    mark_of,
    note_step,
    recall,
    remember,
    search,
    settle,
    step_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

KEPT = lineage._cache  # noqa: SLF001 - its bounds are what is tested
STEPS = lineage._steps  # noqa: SLF001
TRACES = st.integers(1, 2**128 - 1)
SPANS = st.integers(1, 2**64 - 1)


@pytest.fixture(autouse=True)
def _empty_cache() -> Iterator[None]:
    KEPT.clear()
    yield
    KEPT.clear()


@given(st.text(min_size=1, max_size=128), TRACES, SPANS, st.text())
def test_what_is_written_is_read_back(
    engagement: str, trace_id: int, span_id: int, thread: str
) -> None:
    found = decode(encode(engagement, f"{trace_id:032x}", f"{span_id:016x}", thread))
    assert found is not None
    assert found.engagement_id == engagement
    assert found.previous is not None
    assert (found.previous.trace_id, found.previous.span_id) == (trace_id, span_id)
    assert found.previous.is_remote
    assert found.thread == mark_of(thread)


@given(st.text(min_size=1, max_size=128), TRACES, SPANS)
def test_what_was_written_before_threads_were_marked_is_read_too(
    engagement: str, trace_id: int, span_id: int
) -> None:
    found = decode(f"{engagement}|{trace_id:032x}|{span_id:016x}")
    assert found is not None
    assert (found.engagement_id, found.thread) == (engagement, None)
    assert found.previous is not None
    assert (found.previous.trace_id, found.previous.span_id) == (trace_id, span_id)


def test_the_scalar_is_short() -> None:
    made = encode("01234567-89ab-7def-8123-456789abcdef", "a" * 32, "b" * 16, "t" * 1_000)
    assert len(made) == 36 + 1 + 32 + 1 + 16 + 1 + 8
    assert len(f'"{semconv.LINEAGE_KEY}": "{encode("e" * 128, "a" * 32, "b" * 16, "t")}"') <= 250


@pytest.mark.parametrize(
    "scalar",
    [None, 7, b"e|a|b", ["e", "a", "b"], "", "e", "e|a", "|a|b", "x" * 129 + "|a|b", {"e": 1}],
)
def test_what_is_not_ours_is_nothing(scalar: object) -> None:
    assert decode(scalar) is None


@pytest.mark.parametrize("ids", ["|", "x|y", "0|0", "a|0", "|b", f"{'f' * 33}|{'f' * 16}"])
def test_without_a_valid_span_the_engagement_is_still_known(ids: str) -> None:
    found = decode(f"mine|{ids}")
    assert found == Lineage("mine", None)


@given(st.one_of(st.text(), st.text(alphabet="|0123456789abcdef"), st.integers(), st.binary()))
def test_garbage_never_raises(scalar: object) -> None:
    found = decode(scalar)
    assert found is None or found.engagement_id


# -- searching -------------------------------------------------------------------------------------

SPAN = {name: f"{number:016x}" for number, name in enumerate("abcdefgh", 1)}


def at(step: int | None) -> Any:
    """A config that names the checkpoint of a step; None names the thread."""
    return {"configurable": {"thread_id": "t"} | ({"checkpoint_id": step} if step else {})}


class Thread:
    """A thread's checkpoints by number, as a checkpointer gives them."""

    def __init__(self) -> None:
        self.saved: dict[int, Any] = {}
        self.asked: list[str] = []

    def put(  # noqa: PLR0913 - what a checkpoint has, by name
        self,
        number: int,
        turn: str | None,
        *,
        parent: int | None = None,
        source: str = "loop",
        thread: str = "t",
        writes: tuple[str, ...] = (),
    ) -> Thread:
        """Save a checkpoint that `turn` wrote; on the one before unless a parent is named."""
        ours = encode("mine", "1" * 32, SPAN[turn], thread) if turn else None
        before = parent if parent is not None else number - 1
        self.saved[number] = SimpleNamespace(
            config=at(number),
            checkpoint={"id": number},
            metadata={"source": source, "step": number * 10}
            | ({semconv.LINEAGE_KEY: ours} if ours else {}),
            parent_config=at(before) if before else None,
            pending_writes=[("task", channel, None) for channel in writes],
        )
        return self

    def find(self, checkpoint_id: int | None = None) -> Lineage | None:
        """Answer a search; `asked` has what it read."""
        running = search("t", at(None)["configurable"], checkpoint_id)
        wanted = next(running)
        try:
            while True:
                wanted = running.send(self.answer(wanted))
        except StopIteration as stop:
            return stop.value

    def answer(self, wanted: Read) -> Any:
        newest = max(self.saved, default=None)
        if wanted.before is not None:
            below = wanted.before["configurable"]["checkpoint_id"]
            found = max((number for number in self.saved if number < below), default=None)
            self.asked.append(f"before {below}")
        else:
            found = wanted.config["configurable"].get("checkpoint_id", newest)
            self.asked.append(f"at {found}")
        return self.saved.get(found)


def told(found: Lineage | None) -> Any:
    """The span of the last turn, and turn and superstep a fork left from."""
    if found is None:
        return None
    names = {int(span, 16): name for name, span in SPAN.items()}
    last = names[found.previous.span_id] if found.previous else None
    if found.origin is None:
        return last
    turn = found.origin.turn
    return last, names[turn.span_id] if turn else None, found.origin.superstep


def test_the_head_is_enough_where_it_has_it() -> None:
    thread = Thread().put(1, "a").put(2, "b")
    assert told(thread.find()) == "b"
    assert thread.asked == ["at 2"]


def test_an_update_of_the_head_is_followed() -> None:
    thread = Thread().put(1, "a").put(2, None, source="update").put(3, None, source="update")
    assert told(thread.find()) == "a"
    assert thread.asked == ["at 3", "before 3", "before 2"]


def test_an_update_of_an_older_checkpoint_is_a_fork() -> None:
    thread = Thread().put(1, "a").put(2, "b").put(3, "c").put(4, None, parent=1, source="update")
    assert told(thread.find()) == ("c", "a", 10)
    assert thread.asked == ["at 4", "before 4", "at 1"]
    thread.put(5, None, source="update")
    assert told(thread.find()) == ("c", "a", 10)


def test_a_fork_that_went_on_is_none_any_more() -> None:
    thread = Thread().put(1, "a").put(2, "b").put(3, None, parent=1, source="update").put(4, "c")
    assert told(thread.find()) == "c"


def test_an_update_does_not_speak_for_its_thread() -> None:
    thread = Thread().put(1, "a").put(2, "b", source="update")
    assert told(thread.find()) == "a"


def test_runs_that_were_left_out_are_no_forks() -> None:
    thread = Thread().put(1, "a").put(2, "b").put(3, None, parent=1).put(4, None)
    assert told(thread.find()) == "a"


def test_another_checkpoint_than_the_head_is_a_fork() -> None:
    thread = Thread().put(1, "a").put(2, None, source="update").put(3, "b")
    assert told(thread.find(1)) == ("b", "a", 10)
    assert told(thread.find(2)) == ("b", "a", 10)
    assert told(thread.find(3)) == "b"
    assert told(thread.find(9)) == "b"


def test_a_fork_of_a_thread_without_us_tells_what_it_can() -> None:
    thread = Thread().put(1, None).put(2, "b")
    assert told(thread.find(1)) == ("b", None, None)
    assert Thread().put(1, None).put(2, None).find(1) is None


def test_a_thread_copied_from_another_is_a_fork() -> None:
    thread = Thread().put(1, "a", thread="elsewhere").put(2, None, source="update")
    assert told(thread.find()) == ("a", "a", 20)
    assert told(thread.put(3, "b").find()) == "b"


@pytest.mark.parametrize(
    ("writes", "outcome"),
    [
        ((), None),
        (("log",), None),
        (("__error__",), "failed"),
        (("__interrupt__",), "paused"),
        (("__error__", "__interrupt__"), "paused"),
    ],
)
def test_how_the_last_turn_ended(writes: tuple[str, ...], outcome: str | None) -> None:
    found = Thread().put(1, "a", writes=writes).find()
    assert found is not None
    assert found.outcome == outcome


@pytest.mark.parametrize("lacking", [1, 2, 25])
def test_parents_are_followed_where_a_head_lacks_it(lacking: int) -> None:
    thread = Thread().put(1, "a")
    for number in range(lacking):
        thread.put(number + 2, None)
    assert told(thread.find()) == "a"
    assert len(thread.asked) == lacking + 1


@pytest.mark.parametrize("source", ["loop", "update"])
def test_the_search_is_bounded(source: str) -> None:
    thread = Thread()
    for number in range(1, 100):
        thread.put(number, None, source=source)
    assert thread.find() is None
    assert len(thread.asked) <= 52


def test_the_search_is_bounded_even_in_a_circle() -> None:
    thread = Thread().put(1, None, parent=2).put(2, None, parent=1)
    assert thread.find() is None
    assert len(thread.asked) == 26


@pytest.mark.parametrize(
    "head",
    [
        None,
        object(),
        SimpleNamespace(metadata=None, parent_config=None),
        SimpleNamespace(metadata=["odd"], checkpoint=7, pending_writes=None),
        SimpleNamespace(metadata={semconv.LINEAGE_KEY: "garbage", "step": "odd"}),
        SimpleNamespace(metadata={"source": "update"}, parent_config=at(7)),
    ],
)
@pytest.mark.parametrize("checkpoint_id", [None, 1, 9])
def test_nothing_found_is_nothing(head: Any, checkpoint_id: int | None) -> None:
    thread = Thread()
    thread.saved[1] = head
    assert thread.find(checkpoint_id) is None


# -- remembering -----------------------------------------------------------------------------------


def test_a_thread_is_remembered_by_saver() -> None:
    one, other = InMemorySaver(), InMemorySaver()
    remember(one, "t", "", Lineage("mine", None))
    assert recall(one, "t", "") == Lineage("mine", None)
    assert recall(one, "u", "") is None
    assert recall(other, "t", "") is None


def test_the_cache_is_bounded_and_keeps_the_newest() -> None:
    saver = InMemorySaver()
    for number in range(2_000):
        remember(saver, str(number), "", Lineage(str(number), None))
        remember(saver, "0", "", Lineage("0", None))
    assert len(KEPT[saver]) == 1_024
    assert recall(saver, "0", "") is not None
    assert recall(saver, "1", "") is None
    assert recall(saver, "1999", "") is not None


def test_a_saver_that_is_gone_is_forgotten() -> None:
    saver: Any = InMemorySaver()
    remember(saver, "t", "", Lineage("mine", None))
    assert len(KEPT) == 1
    del saver
    gc.collect()
    assert len(KEPT) == 0


def test_a_saver_that_cannot_be_referred_to_weakly_is_read_each_time() -> None:
    class Slotted:
        __slots__ = ()

    saver = Slotted()
    remember(saver, "t", "", Lineage("mine", None))
    assert recall(saver, "t", "") is None


def test_a_thread_is_forgotten_in_every_checkpointer_and_namespace() -> None:
    one, other = InMemorySaver(), InMemorySaver()
    for saver, thread, namespace in (
        (one, "t", ""),
        (one, "t", "n"),
        (other, "t", ""),
        (one, "u", ""),
    ):
        remember(saver, thread, namespace, Lineage("mine", None))
    forget("t")
    assert [recall(one, "t", ""), recall(one, "t", "n"), recall(other, "t", "")] == [None] * 3
    assert recall(one, "u", "") is not None
    forget()
    assert recall(one, "u", "") is None


def test_a_new_thread_belongs_to_whoever_claims_it_first() -> None:
    saver = InMemorySaver()
    assert claim(saver, "t", "", Lineage("first", None)) is None
    assert claim(saver, "t", "", Lineage("second", None)) == Lineage("first", None)
    assert recall(saver, "t", "") == Lineage("first", None)


def test_only_the_last_turn_settles_how_its_thread_stands() -> None:
    saver = InMemorySaver()
    first, second = (decode(encode("mine", "1" * 32, SPAN[name], "t")) for name in "ab")
    assert first is not None
    assert second is not None
    remember(saver, "t", "", first)
    remember(saver, "t", "", second)
    settle(saver, "t", "", SPAN["a"], "failed")
    assert recall(saver, "t", "") == second
    settle(saver, "t", "", SPAN["b"], "paused")
    known = recall(saver, "t", "")
    assert known is not None
    assert (known.previous, known.outcome) == (second.previous, "paused")
    forget("t")
    settle(saver, "t", "", SPAN["b"], "completed")
    assert recall(saver, "t", "") is None


def test_a_run_closed_by_the_collector_meanwhile_blocks_nobody() -> None:
    with lineage._lock:  # noqa: SLF001 - held as while the collector runs in there
        forget("t")


def test_the_last_step_of_a_superstep_is_known_within_bounds() -> None:
    STEPS.clear()
    turn = decode(encode("mine", "1" * 32, SPAN["a"], "t"))
    assert turn is not None
    note_step(SPAN["a"], 1, "1" * 32, SPAN["b"])
    note_step(SPAN["a"], 1, "1" * 32, SPAN["c"])
    note_step(SPAN["a"], None, "1" * 32, SPAN["d"])
    found = step_of(Origin(turn.previous, 1))
    assert found is not None
    assert f"{found.span_id:016x}" == SPAN["c"]
    assert step_of(Origin(turn.previous, 2)) is step_of(Origin()) is None
    for superstep in range(10_000):
        note_step(SPAN["e"], superstep, "1" * 32, SPAN["f"])
    assert len(STEPS) == 4_096
    assert step_of(Origin(turn.previous, 1)) is None
    STEPS.clear()
