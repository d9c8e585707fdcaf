"""Spans whose attributes are not what any dialect promises."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanflow.capture import dialects
from spanflow.capture.dialects import content, kinds, langfuse, langsmith, litellm, names
from spanflow.spending import Usage


def read(attributes, name="a span", scope="anybody", **known):
    return dialects.read_span(name, "INTERNAL", scope, attributes, **known)


@pytest.mark.parametrize(
    "details", ["[", "[" * 5_000, '{"input": -1}', '{"input": true}', '"text"', '{"input": NaN}', 7]
)
def test_malformed_details_are_unknown(details):
    reading = read(
        {
            "langfuse.observation.type": "generation",
            "langfuse.observation.usage_details": details,
            "langfuse.observation.cost_details": details,
        }
    )
    assert not reading.usage.known


@pytest.mark.parametrize(
    "details",
    ["{'input_token_details': 7}", '{"input_token_details": {"cache_read": "7"}}', "{1: 2}"],
)
def test_malformed_parts_of_details_are_unknown(details):
    reading = read(
        {
            "langsmith.span.kind": "llm",
            "langsmith.metadata.usage_metadata": details,
            "metadata.usage_object": details,
        }
    )
    assert not reading.usage.known


def text_in(table):
    """Every piece of text in a table of keys, keys included."""
    if isinstance(table, str):
        return {table}
    if isinstance(table, dict):
        return text_in(tuple(table)) | text_in(tuple(table.values()))
    if isinstance(table, tuple):
        return set().union(*map(text_in, table))
    return set()


FAMILIES = (content, kinds, langfuse, langsmith, litellm, names)
KEYS = sorted(
    text_in(
        tuple(
            value
            for family in FAMILIES
            for name, value in vars(family).items()
            if name.strip("_").isupper()
        )
    )
)
KINDS = sorted(kinds.KINDS)
SAID = sorted(text_in(tuple(kinds.KINDS.values())))
anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters())
    | st.binary()
    | st.sampled_from(SAID)
    | st.just(object()),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | inner.map(repr),
    max_leaves=4,
)


@given(
    st.dictionaries(st.sampled_from(KEYS), anything, max_size=12),
    st.sampled_from(KINDS),
    st.sampled_from(SAID),
    st.text(),
    st.none() | st.integers(),
)
def test_nothing_a_span_says_makes_it_raise(attributes, key, kind, name, started_ns):
    reading = read({key: kind} | attributes, name=name, started_ns=started_ns)
    if reading is None:
        return
    for field in dialects.Reading.__slots__:
        value = getattr(reading, field)
        wanted = {"usage": Usage, "time_to_first_token_ms": float | None}.get(field, str | None)
        assert isinstance(value, wanted)
