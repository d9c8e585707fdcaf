"""Whatever is handed to us becomes bounded text or JSON data, and nothing of it raises."""

from __future__ import annotations

import json
import math
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from spanflow.capture.payload import clean, json_payload, jsonable, payload_of

if TYPE_CHECKING:
    from collections.abc import Callable


class Hostile:
    """Raises whatever is asked of it."""

    def __repr__(self) -> str:
        msg = "no repr"
        raise RuntimeError(msg)

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        raise RuntimeError

    __hash__ = object.__hash__


class HostileModel:
    """Claims to be a model and is none."""

    def model_dump(self) -> Any:
        raise RuntimeError


class Endless:
    """A model that contains itself."""

    def model_dump(self) -> Any:
        return {"again": Endless()}


class Text(str):
    """Text that is more than text."""

    __slots__ = ()


SURROGATES = st.text(alphabet=st.characters(min_codepoint=0xD7F0, max_codepoint=0xE010))
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(min_value=2**62, max_value=2**70),
    st.floats(),
    st.text(),
    SURROGATES,
    st.binary(),
    st.complex_numbers(),
    st.datetimes(timezones=st.just(UTC)),
    st.decimals(),
    st.uuids(),
    st.builds(Hostile),
    st.builds(HostileModel),
    st.builds(Endless),
    st.builds(Text, st.text()),
    st.sampled_from([object, len, NotImplemented, ...]),
)
KEYS = st.one_of(st.text(), SURROGATES, st.integers(), st.floats(), st.tuples(st.text()), st.none())
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=5),
        st.lists(inner, max_size=5).map(tuple),
        st.dictionaries(KEYS, inner, max_size=5),
        st.frozensets(st.text(), max_size=3),
    ),
    max_leaves=20,
)


@given(ANYTHING)
def test_anything_becomes_json_data(value: Any) -> None:
    data = jsonable(value)
    text = orjson.dumps(data)
    assert orjson.loads(text) == data
    json.loads(text)  # a stricter reader takes it too


@given(ANYTHING, st.integers(0, 2_000))
def test_a_payload_is_text_of_at_most_so_many_bytes(value: Any, limit: int) -> None:
    found = payload_of(value, limit)
    raw = found.text.encode("utf-8")
    assert len(raw) <= limit
    assert found.truncated == (found.original_size > limit)
    if found.truncated:
        assert limit - len(raw) < 4  # nothing is lost but a torn character
    else:
        assert len(raw) == found.original_size
        if not isinstance(value, str):
            json.loads(found.text)


@given(ANYTHING, st.integers(0, 200))
def test_clean_text_is_short_and_can_be_encoded(value: Any, limit: int) -> None:
    text = clean(value, limit)
    assert len(text) <= limit
    assert text.encode("utf-8").decode("utf-8") == text


@given(ANYTHING, st.integers(256, 2_000))
def test_a_payload_as_data_is_whole_or_says_how_large_it_was(value: Any, limit: int) -> None:
    data = json_payload(value, limit)
    orjson.dumps(data)
    if isinstance(data, dict) and data.get("truncated") is True:
        assert len(data["text"].encode()) <= limit
        assert data["original_size"] > limit
    else:
        assert len(orjson.dumps(data)) <= limit


JSON = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**63), 2**63 - 1),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(alphabet=st.characters(blacklist_categories=["Cs"])),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(
            st.text(alphabet=st.characters(blacklist_categories=["Cs"])), inner, max_size=4
        ),
    ),
    max_leaves=20,
)


@given(JSON)
def test_json_data_stays_what_it_is(value: Any) -> None:
    assert jsonable(value) == value
    found = payload_of(value, 10**6)
    assert (found.text if isinstance(value, str) else orjson.loads(found.text)) == value


class Budget(BaseModel):
    """A model of a user's."""

    amount: int
    until: datetime | None = None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Budget(amount=3), {"amount": 3, "until": None}),
        ([1, "1", True, None], [1, "1", True, None]),
        ((1, {2}), [1, [2]]),
        ({1: "a", None: "b", (1, 2): "c"}, {"1": "a", "None": "b", "(1, 2)": "c"}),
        (math.nan, None),
        (math.inf, None),
        (2**63, str(2**63)),
        (-(2**63), -(2**63)),
        (b"abc\xff", "abc\ufffd"),
        ("a\ud800b", "a\ufffdb"),
        ("nul\0", "nul\0"),
        ("エンゲージ🎌", "エンゲージ🎌"),
        (Hostile(), "<Hostile>"),
    ],
)
def test_what_json_has_no_word_for(value: Any, expected: Any) -> None:
    assert jsonable(value) == expected
    assert type(jsonable(value)) is type(expected)


def test_what_contains_itself_ends() -> None:
    around: list[Any] = []
    around.append(around)
    orjson.dumps(jsonable(around))
    orjson.dumps(jsonable(Endless()))


def test_a_large_integer_is_its_digits() -> None:
    assert len(jsonable(10**4_000)) == 4_001


class NoAttributes:
    """Raises where it is asked for an attribute it lacks."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)


class NoClass:
    """Raises where it is asked what it is."""

    @property
    def __class__(self) -> Any:
        raise RuntimeError


class NoItems(dict[str, Any]):
    """A mapping that cannot be read."""

    def items(self) -> Any:
        raise RuntimeError


class NoIteration(list[Any]):
    """A list that cannot be read."""

    def __iter__(self) -> Any:
        raise RuntimeError


class NoText(str):
    """Text that cannot be read."""

    __slots__ = ()

    def isascii(self) -> bool:
        raise RuntimeError

    def encode(self, *args: Any, **kwargs: Any) -> bytes:
        raise RuntimeError


@pytest.mark.parametrize(
    "make",  # pytest itself cannot hold such values
    [
        lambda: 10**5_000,
        NoAttributes,
        NoClass,
        lambda: NoItems(a=1),
        lambda: NoIteration([1]),
        lambda: NoText("é"),
        lambda: {NoText("k"): NoAttributes()},
    ],
)
def test_even_the_most_hostile_value_raises_nothing(make: Callable[[], Any]) -> None:
    orjson.dumps(jsonable(make()))
    payload_of(make(), 100)
    clean(make())


def test_what_contains_itself_many_times_ends_soon() -> None:
    wide: list[Any] = []
    wide.extend([wide, wide])
    started = time.monotonic()
    orjson.dumps(jsonable(wide))
    shared: Any = "leaf"
    for _ in range(30):
        shared = {"a": shared, "b": shared}
    orjson.dumps(jsonable(shared))
    assert time.monotonic() - started < 10


def test_twenty_megabytes_keep_their_size() -> None:
    found = payload_of("x" * 20_000_000, 16_384)
    assert (len(found.text), found.truncated, found.original_size) == (16_384, True, 20_000_000)


def test_a_cut_never_splits_a_character() -> None:
    assert payload_of("é" * 10, 5).text == "éé"
    assert payload_of("🎌", 3).text == ""
