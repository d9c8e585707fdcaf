"""Which records of calls count."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from reported import COUNTED, call, duplicate_of, usages

from spanflow.spending import BORROWED, Usage
from spanflow.tally import Verdict, judge


def nested_in(span_id):
    return Verdict(counted=False, because="nested", counted_by=span_id)


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
