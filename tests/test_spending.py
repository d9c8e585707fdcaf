"""What a call spent, read from numbers of any kind, and what calls add up to."""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reported import usages

from spanflow.spending import Totals, Usage


class Hostile:
    """What says that it is a number, and is none."""

    def __index__(self):
        msg = "no"
        raise RuntimeError(msg)


anything = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    st.binary(),
    st.lists(st.integers()),
    st.dictionaries(st.text(), st.integers()),
    st.just(object()),
    st.decimals(),
    st.fractions(),
    st.sampled_from([Hostile(), np.int64(-1), np.float32("nan"), np.True_, np.array([1, 2])]),
)


@pytest.mark.parametrize(
    ("raw", "total", "flags"),
    [
        ({"input_tokens": 5, "output_tokens": 5}, 10, ()),
        ({"total_tokens": 30}, 30, ()),
        ({"input_tokens": 50, "output_tokens": 20, "total_tokens": 3}, 3, ("inconsistent_total",)),
        ({"input_tokens": 50, "total_tokens": 3}, 3, ("inconsistent_total",)),
        ({"input_tokens": 5, "total_tokens": 9}, 9, ()),
        ({"input_tokens": 5}, None, ()),
        ({}, None, ()),
        ({"input_tokens": -5, "output_tokens": 5}, None, ("refused",)),
        ({"input_tokens": 7.0, "output_tokens": 1}, 8, ()),
    ],
)
def test_a_total_is_kept_or_made_of_both_parts(raw, total, flags):
    usage = Usage.of(**raw)
    assert (usage.total_tokens, usage.flags) == (total, flags)


@pytest.mark.parametrize(
    "refused",
    [
        *(True, -1, 0.5, math.nan, math.inf, 10**12 + 1, 10**400, "5", b"5", [5], object()),
        *(np.True_, np.int64(-1), np.float32(0.5), np.array([5]), np.float64("nan"), Hostile()),
        *(Decimal(-1), Decimal("0.5"), Decimal("NaN"), Decimal("sNaN"), Decimal("Infinity")),
        *(Decimal("1E+999999999999"), Decimal("1E-999999999999"), Fraction(1, 2)),
    ],
)
def test_what_is_no_count_is_unknown_and_flagged(refused):
    usage = Usage.of(input_tokens=refused)
    assert (usage.input_tokens, usage.known, usage.flags) == (None, False, ("refused",))


@given(
    st.integers(0, 10**12),
    st.sampled_from([np.int64, np.uint64, np.float64, np.array, Decimal, Fraction, float]),
)
def test_a_count_may_be_a_number_of_any_kind(count, kind):
    usage = Usage.of(input_tokens=kind(count), output_tokens=kind(0))
    assert (usage.input_tokens, usage.total_tokens, usage.flags) == (count, count, ())
    assert type(usage.input_tokens) is int


@given(st.decimals(0, 10**9, places=4))
def test_a_price_may_be_a_number_of_any_kind(price):
    for given_as in (price, Fraction(price), np.float64(price)):
        usage = Usage.of(cost_usd=given_as)
        assert (usage.cost_usd, type(usage.cost_usd), usage.flags) == (float(price), float, ())


@pytest.mark.parametrize(
    "refused", [True, -0.01, math.nan, math.inf, 10**400, "1", np.True_, Decimal("sNaN")]
)
def test_what_is_no_price_is_unknown_and_flagged(refused):
    usage = Usage.of(input_tokens=1, cost_usd=refused)
    assert (usage.cost_usd, usage.known, usage.flags) == (None, True, ("refused",))


def test_a_cost_alone_is_no_usage():
    assert not Usage.of(cost_usd=0.1).known


def test_flags_of_an_earlier_reading_stay():
    assert Usage.of(flags=["borrowed", "refused"], input_tokens=-1).flags == ("borrowed", "refused")


@given(st.dictionaries(st.text() | st.sampled_from(sorted(Usage.__slots__)), anything))
def test_nothing_malformed_raises_or_passes(raw):
    raw.pop("flags", None)
    usage = Usage.of(**raw)
    for name in Usage.__slots__:
        value = getattr(usage, name)
        assert name == "flags" or value is None or value >= 0


# --- totals


def test_no_calls_are_zero_and_calls_without_usage_are_unknown():
    totals = Totals()
    assert (totals.total_tokens, totals.cost_usd) == (0, 0.0)
    totals.tool_calls += 1
    assert totals.total_tokens == 0
    totals.add(Usage())
    assert (totals.total_tokens, totals.cost_usd, totals.calls_without_usage) == (None, None, 1)
    totals.add(Usage.of(input_tokens=3, output_tokens=4, cost_usd=0.5))
    assert totals.as_dict() == {
        "input_tokens": 3,
        "output_tokens": 4,
        "cache_read_tokens": None,
        "cache_write_tokens": None,
        "reasoning_tokens": None,
        "total_tokens": 7,
        "cost_usd": 0.5,
        "llm_calls": 2,
        "tool_calls": 1,
        "calls_without_usage": 1,
        "unpriced_calls": 1,
    }


def test_costs_add_up_as_a_person_would():
    totals = Totals()
    for cost in (0.1, 0.2):
        totals.add(Usage.of(cost_usd=cost))
    assert totals.cost_usd == 0.3


def totals_of(parts):
    totals = Totals()
    for usage in parts:
        totals.add(usage)
    return totals


@given(st.lists(usages), st.data())
def test_totals_do_not_depend_on_order_or_grouping(parts, data):
    shuffled = data.draw(st.permutations(parts))
    cut = data.draw(st.integers(0, len(parts)))
    left, right = totals_of(shuffled[:cut]), totals_of(shuffled[cut:])
    left.merge(right)
    assert left == totals_of(parts)
