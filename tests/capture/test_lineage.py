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
from spanflow.capture.lineage import Lineage, decode, encode, recall, remember, search

if TYPE_CHECKING:
    from collections.abc import Iterator

KEPT = lineage._cache  # noqa: SLF001 - its bounds are what is tested
TRACES = st.integers(1, 2**128 - 1)
SPANS = st.integers(1, 2**64 - 1)


@pytest.fixture(autouse=True)
def _empty_cache() -> Iterator[None]:
    KEPT.clear()
    yield
    KEPT.clear()


@given(st.text(min_size=1, max_size=128), TRACES, SPANS)
def test_what_is_written_is_read_back(engagement: str, trace_id: int, span_id: int) -> None:
    found = decode(encode(engagement, f"{trace_id:032x}", f"{span_id:016x}"))
    assert found is not None
    assert found.engagement_id == engagement
    assert found.previous is not None
    assert (found.previous.trace_id, found.previous.span_id) == (trace_id, span_id)
    assert found.previous.is_remote


def test_the_scalar_is_short() -> None:
    scalar = encode("01234567-89ab-7def-8123-456789abcdef", "a" * 32, "b" * 16)
    assert len(scalar) <= 100


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


def checkpoint(scalar: object, parent: Any) -> Any:
    metadata = {semconv.LINEAGE_KEY: scalar} if scalar is not None else {}
    return SimpleNamespace(metadata=metadata, parent_config=parent)


def drive(saved: dict[int, Any], head: int = 0) -> tuple[Lineage | None, list[int]]:
    """Answer a search from `saved`; returns what it found and what it read."""
    asked: list[int] = []
    running = search(head)
    wanted = next(running)
    try:
        while True:
            asked.append(wanted)
            wanted = running.send(saved.get(wanted))
    except StopIteration as stop:
        return stop.value, asked


def test_the_head_is_enough_where_it_has_it() -> None:
    found, asked = drive({0: checkpoint("mine|a|b", 1), 1: checkpoint("other|a|b", None)})
    assert found is not None
    assert (found.engagement_id, asked) == ("mine", [0])


@pytest.mark.parametrize("lacking", [1, 2, 24])
def test_parents_are_followed_where_a_head_lacks_it(lacking: int) -> None:
    saved: dict[int, Any] = {n: checkpoint(None, n + 1) for n in range(lacking)}
    saved[lacking] = checkpoint("mine|a|b", None)
    found, asked = drive(saved)
    assert found is not None
    assert (found.engagement_id, len(asked)) == ("mine", lacking + 1)


def test_the_search_is_bounded_even_in_a_circle() -> None:
    found, asked = drive({0: checkpoint(None, 1), 1: checkpoint(None, 0)})
    assert found is None
    assert len(asked) == 25


@pytest.mark.parametrize(
    "saved",
    [
        {},
        {0: checkpoint(None, None)},
        {0: checkpoint(None, 1)},
        {0: checkpoint("garbage", None)},
        {0: SimpleNamespace(metadata=None, parent_config=None)},
        {0: SimpleNamespace(metadata=["odd"])},
        {0: object()},
    ],
)
def test_nothing_found_is_nothing(saved: dict[int, Any]) -> None:
    assert drive(saved)[0] is None


# -- remembering -----------------------------------------------------------------------------------


def test_a_thread_is_remembered_by_saver() -> None:
    one, other = InMemorySaver(), InMemorySaver()
    remember(one, "t", Lineage("mine", None))
    assert recall(one, "t") == Lineage("mine", None)
    assert recall(one, "u") is None
    assert recall(other, "t") is None


def test_the_cache_is_bounded_and_keeps_the_newest() -> None:
    saver = InMemorySaver()
    for number in range(2_000):
        remember(saver, str(number), Lineage(str(number), None))
        remember(saver, "0", Lineage("0", None))
    assert len(KEPT[saver]) == 1_024
    assert recall(saver, "0") is not None
    assert recall(saver, "1") is None
    assert recall(saver, "1999") is not None


def test_a_saver_that_is_gone_is_forgotten() -> None:
    saver: Any = InMemorySaver()
    remember(saver, "t", Lineage("mine", None))
    assert len(KEPT) == 1
    del saver
    gc.collect()
    assert len(KEPT) == 0


def test_a_saver_that_cannot_be_referred_to_weakly_is_read_each_time() -> None:
    class Slotted:
        __slots__ = ()

    saver = Slotted()
    remember(saver, "t", Lineage("mine", None))
    assert recall(saver, "t") is None
