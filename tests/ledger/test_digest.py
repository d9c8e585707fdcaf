"""Digests: the same for the same facts, and different for any other."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanflow.errors import LedgerError
from spanflow.ledger.digest import (
    BEGUN,
    CURRENT,
    ENDED,
    FORMS,
    GONE,
    GRAPH,
    Digest,
    Entry,
    compare,
)

FORM = FORMS[CURRENT]


def leaf(**values: object) -> bytes:
    return FORM.leaf(list(values), list(values.values()))


def entry(number: int, state: int = ENDED, *, leaf: int = 0, begun: int = 0) -> Entry:
    return Entry(
        number.to_bytes(8), state, leaf.to_bytes(16), begun.to_bytes(16) if state != GRAPH else b""
    )


def test_the_first_form_never_changes():
    """Digests of it are kept elsewhere: whatever fails here breaks them all."""
    row = {
        "kind": "llm",
        "name": 'a "ü"\n\0',
        "started_ns": 1_790_000_000_000_000_000,
        "cost_usd": 0.1,
        "replayed": True,
        "model": None,
        "attributes": '{"b":[1,1.50,1e400,null,true],"a":{"y":"\\u00e9","x":-0.0}}',
    }
    assert leaf(**row).hex() == "693db1ae81c58526aaca68becc3bf8a9"
    told = FORM.begun(list(row), list(row.values()))
    assert told.hex() == "4ee976d4a2c31ccd611638855fa4c54f"
    made = Digest.of(1, "e/1", [entry(2, BEGUN, leaf=5, begun=6), entry(1)])
    assert str(made) == (
        "spanflow-digest-1:e%2F1:2:90a88bf331bfb103cf15a9ca81b90b51b4cc0f0db82a"
        "1b0dfb0deb3c8b3bfc3f:AAAAAAAAAAABAAAAAAAAAAAAAAAAAAAAAAEAAAAAAAAAAgAAAAAAAAAAAAA"
        "AAAAAAAUAAAAAAAAAAAAAAAAAAAAG"
    )


def test_what_comes_later_as_null_changes_nothing():
    assert leaf(name="a", started_ns=1) == leaf(started_ns=1, colour=None, name="a")
    assert leaf(name="a") != leaf(name="a", colour="red")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ('{"a":1,"b":2}', '{"b":2,"a":1}'),
        ('{"a":1.5}', '{"a":1.50}'),
        ('{"a":100000.0}', '{"a":1e5}'),
        ('{"a":"é"}', '{"a":"\\u00e9"}'),
        ('{"a":0.0}', '{"a":0e7}'),
    ],
)
def test_one_value_has_one_form(one, other):
    assert leaf(attributes=one) == leaf(attributes=other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ('{"a":1}', '{"a":"1"}'),
        ('{"a":1}', '{"a":true}'),
        ('{"a":1}', '{"a":1.0}'),
        ('{"a":null}', "{}"),
        ('{"a":0.0}', '{"a":-0.0}'),
        ('{"a":12345678901234567890123}', '{"a":12345678901234567890124}'),
        ('{"a":0.1234567890123456789}', '{"a":0.1234567890123456788}'),
        ('{"a":1e400}', '{"a":1e401}'),
        ('{"a":1,"a":2}', '{"a":2,"a":1}'),
        ("[1,2]", "[2,1]"),
        ('{"a":[]}', '{"a":{}}'),
        ('["a","b"]', '["a\\",\\"b"]'),
        ("[" * 500 + "1" + "]" * 500, "[" * 500 + "2" + "]" * 500),
        ("{torn", "{torm"),
        ('{"a":1e' + "9" * 5000 + "}", '{"a":1e' + "9" * 5001 + "}"),
        (None, "null"),
    ],
)
def test_two_values_have_two(one, other):
    assert leaf(attributes=one) != leaf(attributes=other)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(json_values, json_values)
def test_json_is_equal_where_python_says_so_of_value_and_type(one, other):
    def strict(value):
        if isinstance(value, dict):
            return {key: strict(item) for key, item in value.items()}
        if isinstance(value, list):
            return [strict(item) for item in value]
        sign = math.copysign(1, value) if isinstance(value, float) else 1
        return (type(value).__name__, value, sign)

    same = leaf(attributes=json.dumps(one)) == leaf(attributes=json.dumps(other, indent=1))
    assert same == (strict(one) == strict(other))


@given(st.dictionaries(st.sampled_from(["name", "path", "model"]), st.text(), min_size=1))
def test_texts_cannot_run_into_each_other(fields):
    merged = dict.fromkeys(fields, "") | {next(iter(fields)): "".join(fields.values())}
    assert (leaf(**fields) == leaf(**merged)) == (fields == merged)


entries = st.builds(
    entry,
    st.integers(0, 50),
    st.sampled_from([ENDED, BEGUN, GONE, GRAPH]),
    leaf=st.integers(0, 2**128 - 1),
    begun=st.integers(0, 2**128 - 1),
)


@given(st.text(min_size=1), st.lists(entries))
def test_a_digest_is_read_back_from_its_text(engagement_id, several):
    digest = Digest.of(CURRENT, engagement_id, several)
    text = str(digest)
    assert Digest.read(text) == digest == Digest.read(f" {text}\n")
    assert text.isascii()
    assert not set(text) & set(" \n\"'")


@given(st.lists(entries), st.data())
def test_a_digest_with_any_letter_changed_is_refused_or_the_same(several, data):
    text = str(Digest.of(CURRENT, "e1", several))
    place = data.draw(st.integers(0, len(text) - 1))
    changed = text[:place] + data.draw(st.characters(codec="ascii")) + text[place + 1 :]
    try:
        assert Digest.read(changed) == Digest.read(text)
    except LedgerError:
        assert changed != text


@pytest.mark.parametrize("text", ["", "x", "spanflow-digest-1:e1:0", "spanflow-digest-1:a:b:c:d"])
def test_what_is_no_digest_is_told(text):
    with pytest.raises(LedgerError, match="no whole digest"):
        Digest.read(text)


def test_a_digest_of_a_later_version_asks_for_an_upgrade():
    text = str(Digest.of(CURRENT, "e1", [])).replace("digest-1:", "digest-7:")
    with pytest.raises(LedgerError, match=r"version 7.*[Uu]pgrade"):
        Digest.read(text)


BEFORE = [entry(1), entry(2, BEGUN, leaf=5, begun=6), entry(3, GONE, leaf=7, begun=8)]


@pytest.mark.parametrize(
    ("now", "verdict"),
    [
        (BEFORE, "same"),
        ([*BEFORE, entry(4)], "extended"),
        ([*BEFORE, entry(4, GRAPH)], "extended"),
        ([BEFORE[0], entry(2, GONE, leaf=5, begun=6), BEFORE[2]], "extended"),
        ([BEFORE[0], entry(2, ENDED, leaf=9, begun=6), BEFORE[2]], "extended"),
        ([*BEFORE[:2], entry(3, ENDED, leaf=9, begun=8)], "extended"),
        ([BEFORE[0], entry(2, ENDED, leaf=9, begun=7), BEFORE[2]], "altered"),
        ([BEFORE[0], entry(2, BEGUN, leaf=9, begun=6), BEFORE[2]], "altered"),
        ([*BEFORE[:2], entry(3, BEGUN, leaf=7, begun=8)], "altered"),
        ([entry(1, leaf=1), *BEFORE[1:]], "altered"),
        ([entry(1, BEGUN), *BEFORE[1:]], "altered"),
        (BEFORE[:2], "altered"),
        ([*BEFORE, BEFORE[0]], "altered"),
        ([*BEFORE, entry(1, leaf=3)], "altered"),
        ([], "altered"),
    ],
)
def test_what_two_states_say_of_each_other(now, verdict):
    then = Digest.read(str(Digest.of(CURRENT, "e1", BEFORE)))
    assert compare(then, now, sound=True) == verdict
    assert compare(then, now, sound=False) == "altered"
