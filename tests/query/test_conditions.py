"""What must hold of an engagement, as SQL."""

from __future__ import annotations

import json

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spanflow.errors import LedgerError
from spanflow.query.conditions import matches

values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**53), 2**53),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00")),
)
keys = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=20)


def holds(metadata: dict[str, object], where: dict[str, object]) -> bool:
    conditions, params = matches(where)
    query = f"SELECT {' AND '.join(conditions)} FROM (SELECT ?::JSON AS metadata)"
    text = json.dumps(metadata, ensure_ascii=False)
    [(answer,)] = duckdb.execute(query, [*params, text]).fetchall()
    return answer is True


def same(one: object, other: object) -> bool:
    """JSON knows text, numbers, bools and null; 1, "1" and true are three values."""
    kinds = {bool: "bool", int: "number", float: "number", str: "text", type(None): "null"}
    return kinds[type(one)] == kinds[type(other)] and one == other


@settings(deadline=None)
@given(key=keys, stored=values, asked=values)
def test_metadata_is_compared_with_its_type(key, stored, asked):
    columns = {"conversation_id", "name", "service_name", "session_id", "user_id"}
    if key in columns:
        return
    assert holds({key: stored}, {key: stored})
    assert holds({key: stored}, {key: asked}) == same(stored, asked)


@pytest.mark.parametrize("asked", [1, "1", True, None])
@pytest.mark.parametrize("stored", [1, "1", True, None])
def test_one_as_number_as_text_and_true_are_three_values(stored, asked):
    assert holds({"n": stored}, {"n": asked}) == same(stored, asked)


@pytest.mark.parametrize("key", ["a/b", "a~b", "a.b", 'a"b', "$", "", "user id"])
def test_any_key_can_be_named(key):
    assert holds({key: "x", "other": "y"}, {key: "x"})


def test_a_key_that_is_not_there_matches_nothing():
    assert not holds({"a": 1}, {"b": None})


def test_a_text_column_equals_no_number():
    assert matches({"user_id": 7}) == (["false"], [])
    assert matches({"user_id": None}) == (["user_id IS NULL"], [])
    assert matches({"user_id": "u"}) == (["user_id = ?"], ["u"])


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(LedgerError, match="give text, a number"):
        matches({"tags": ["a"]})
