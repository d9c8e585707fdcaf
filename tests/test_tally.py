"""The arithmetic of usage and totals, and which records of calls count."""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanflow.tally import BORROWED, Call, Totals, Usage, Verdict, judge

COUNTED = Verdict(counted=True)


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
few_tokens = st.none() | st.integers(0, 3)
usages = st.builds(
    Usage.of,
    input_tokens=few_tokens,
    output_tokens=few_tokens,
    cache_read_tokens=few_tokens,
    total_tokens=few_tokens,
    cost_usd=st.none() | st.floats(0, 10),
)


def call(span_id, parent=None, **known):
    usage = known.pop("usage", Usage.of(input_tokens=10, output_tokens=5))
    return Call(
        **{
            "span_id": span_id,
            "parent_span_id": parent,
            "scope": "ours",
            "step_id": "step",
            "model": "m",
            "response_id": None,
            "started_ns": 0,
            "ended_ns": 100,
            "usage": usage,
        }
        | known
    )


def duplicate_of(span_id):
    return Verdict(counted=False, because="duplicate", counted_by=span_id)


def nested_in(span_id):
    return Verdict(counted=False, because="nested", counted_by=span_id)


# --- usage


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


# --- nested calls


def test_a_call_inside_a_call_does_not_count_however_deep():
    verdicts = judge([call("a"), call("c", "b")], {"b": "http", "http": "a"})
    assert verdicts == {"a": COUNTED, "c": nested_in("a")}


def test_where_only_inner_calls_know_usage_the_outermost_of_them_count():
    calls = [
        call("outer", usage=Usage()),
        call("middle", "outer", usage=Usage()),
        call("first", "middle", started_ns=1),
        call("second", "middle", started_ns=50),
        call("deep", "second"),
        call("silent", "outer", usage=Usage()),
    ]
    assert judge(calls, {}) == {
        "outer": Verdict(counted=False, because="usage_on_nested", counted_by="first"),
        "middle": Verdict(counted=False, because="usage_on_nested", counted_by="first"),
        "first": COUNTED,
        "second": COUNTED,
        "deep": nested_in("second"),
        "silent": nested_in("first"),
    }


def test_where_nobody_knows_usage_the_outer_call_counts_once():
    calls = [call("outer", usage=Usage()), call("inner", "outer", usage=Usage())]
    assert judge(calls, {}) == {"outer": COUNTED, "inner": nested_in("outer")}


def test_a_circle_of_parents_hides_no_call():
    calls = [call("a", "b"), call("b", "a"), call("c", "a")]
    assert judge(calls, {}) == {"a": COUNTED, "b": COUNTED, "c": nested_in("a")}


# --- together with duplicates


def test_what_is_inside_a_duplicate_points_at_the_one_that_counts():
    rich = Usage.of(input_tokens=10, output_tokens=5, cost_usd=1)
    calls = [call("a"), call("inner", "a"), call("b", scope="theirs", usage=rich)]
    assert judge(calls, {})["inner"] == nested_in("b")


def test_numbers_written_onto_a_wider_span_hide_no_call_inside_it():
    wider = Usage.of(input_tokens=10, output_tokens=5, flags=[BORROWED])
    calls = [
        call("request", scope="web", step_id=None, usage=wider, ended_ns=1_000),
        call("a", "request", ended_ns=100),
        call("b", "request", started_ns=200, ended_ns=300, usage=Usage.of(input_tokens=1)),
    ]
    assert judge(calls, {}) == {"request": duplicate_of("a"), "a": COUNTED, "b": COUNTED}
    assert judge(calls[:1] + calls[2:], {}) == {"request": COUNTED, "b": COUNTED}


# --- whatever arrives

SPANS = [f"s{index}" for index in range(8)]
calls_of_any_shape = st.lists(
    st.builds(
        call,
        st.sampled_from(SPANS),
        st.none() | st.sampled_from([*SPANS, "elsewhere", ""]),
        scope=st.sampled_from(["ours", "theirs", "others", ""]),
        step_id=st.none() | st.sampled_from(["one", "two"]),
        model=st.none() | st.sampled_from(["m", "m-2024-01-01", "unknown", "n", "\ud800"]),
        response_id=st.none() | st.sampled_from(["r", "q", ""]),
        started_ns=st.integers(-10, 10),
        ended_ns=st.integers(-10, 20),
        usage=usages,
    ),
    max_size=10,
)
parents_of_any_shape = st.dictionaries(
    st.sampled_from(SPANS), st.none() | st.sampled_from([*SPANS, "elsewhere"])
)


def outer_calls(span_id, by_id, parents):
    """Every call around this one, by walking up, unless the walk comes back."""
    seen = [span_id]
    while True:
        at = seen[-1]
        above = parents.get(at) or (by_id[at].parent_span_id if at in by_id else None)
        if above is None:
            return [each for each in seen[1:] if each in by_id]
        if above in seen:
            circle = seen[seen.index(above) :]
            walked = seen[: seen.index(above) + 1]
            return [] if span_id in circle else [each for each in walked[1:] if each in by_id]
        seen.append(above)


@given(calls_of_any_shape, parents_of_any_shape, st.data())
def test_the_order_of_records_never_matters(calls, parents, data):
    assert judge(calls, parents) == judge(data.draw(st.permutations(calls)), parents)


@given(calls_of_any_shape, parents_of_any_shape)
def test_nothing_counts_twice_and_nothing_is_lost(calls, parents):
    by_id = {each.span_id: each for each in calls}
    calls = list(by_id.values())
    verdicts = judge(calls, parents)
    assert verdicts.keys() == by_id.keys()
    for span_id, verdict in verdicts.items():
        around = outer_calls(span_id, by_id, parents)
        if verdict.counted:
            assert (verdict.because, verdict.counted_by) == (None, None)
            # Whatever is around a call that counts knows nothing, and does not count.
            assert not any(by_id[each].usage.known or verdicts[each].counted for each in around)
            continue
        assert verdicts[verdict.counted_by].counted
        if verdict.because == "duplicate":
            assert by_id[verdict.counted_by].scope != by_id[span_id].scope
        elif verdict.because == "nested":
            assert around
        else:
            assert not by_id[span_id].usage.known
            assert by_id[verdict.counted_by].usage.known
    # No two records of one scope are ever told to be one call.
    claimed = sorted(
        (verdict.counted_by, by_id[span_id].scope)
        for span_id, verdict in verdicts.items()
        if verdict.because == "duplicate"
    )
    assert all(one != other for one, other in pairwise(claimed))
