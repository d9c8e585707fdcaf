"""Which records of different scopes are one call."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reported import COUNTED, call, duplicate_of
from slow_matching import same_calls as slowly

from spanflow.matching import same_calls
from spanflow.spending import Call, Usage
from spanflow.tally import judge


def test_of_two_reports_the_richer_counts():
    rich = Usage.of(input_tokens=10, output_tokens=5, cache_read_tokens=3)
    calls = [call("a"), call("b", scope="theirs", started_ns=2, ended_ns=103, usage=rich)]
    assert judge(calls, {}) == {"a": duplicate_of("b"), "b": COUNTED}


def test_two_equal_calls_of_one_scope_are_two():
    assert judge([call("a"), call("b")], {}) == {"a": COUNTED, "b": COUNTED}


@pytest.mark.parametrize(
    "other",
    [
        {"step_id": "another"},
        {"model": "another"},
        {"started_ns": 101, "ended_ns": 200},
        {"usage": Usage.of(input_tokens=10, output_tokens=6)},
    ],
)
def test_reports_that_differ_are_two_calls(other):
    verdicts = judge([call("a"), call("b", scope="theirs", **other)], {})
    assert verdicts == {"a": COUNTED, "b": COUNTED}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"model": "gpt-4o"}, {"model": "openai/gpt-4o-2024-08-06"}),
        ({"model": None}, {"model": "gpt-4o"}),
        ({"model": "unknown"}, {"model": "gpt-4o"}),
        ({"model": "claude-sonnet-4-5"}, {"model": "Claude-Sonnet-4-5-20250929"}),
        ({"usage": Usage()}, {"started_ns": 20, "ended_ns": 90}),
        ({"usage": Usage.of(total_tokens=15)}, {}),
        (
            {"response_id": "r", "model": "x"},
            {"response_id": "r", "model": "y", "step_id": "another"},
        ),
        # cached tokens left out of the input
        (
            {"usage": Usage.of(input_tokens=10, output_tokens=5)},
            {"usage": Usage.of(input_tokens=30, output_tokens=5, cache_read_tokens=20)},
        ),
        # reasoning left out of the output
        (
            {"usage": Usage.of(input_tokens=10, output_tokens=5)},
            {"usage": Usage.of(input_tokens=10, output_tokens=9, reasoning_tokens=4)},
        ),
    ],
)
def test_reports_that_agree_as_far_as_they_know_are_one_call(one, other):
    verdicts = judge([call("a", **one), call("b", scope="theirs", **other)], {})
    assert sum(verdict.counted for verdict in verdicts.values()) == 1


def test_two_dates_of_a_model_are_two_models():
    calls = [
        call("a", model="gpt-4o-2024-05-13"),
        call("b", scope="theirs", model="gpt-4o-2024-08-06"),
    ]
    assert judge(calls, {}) == {"a": COUNTED, "b": COUNTED}


@pytest.mark.parametrize("usage", [Usage(), Usage.of(input_tokens=10, output_tokens=5)])
def test_a_report_that_does_not_know_its_step_is_of_the_call_in_one(usage):
    calls = [call("a", usage=usage), call("b", scope="theirs", step_id=None, ended_ns=99)]
    verdicts = judge(calls, {})
    assert [verdict.because for verdict in verdicts.values() if not verdict.counted] == [
        "duplicate"
    ]


def test_of_two_reports_that_know_usage_the_one_that_knows_its_step_counts():
    rich = Usage.of(input_tokens=10, output_tokens=5, cache_read_tokens=3, cost_usd=1)
    calls = [call("a"), call("b", scope="theirs", step_id=None, usage=rich)]
    assert judge(calls, {}) == {"a": COUNTED, "b": duplicate_of("a")}


def test_a_report_without_a_step_is_of_the_call_in_its_own_place_first():
    calls = [
        call("in a step"),
        call("beside it", step_id=None),
        call("late", scope="theirs", step_id=None, ended_ns=99),
    ]
    (group,) = same_calls(calls)
    assert {each.span_id for each in group} == {"beside it", "late"}


def test_a_scope_that_missed_the_first_call_is_matched_with_the_second():
    calls = [
        call("first", started_ns=0, ended_ns=100, usage=Usage.of(input_tokens=1)),
        call("second", started_ns=95, ended_ns=200, usage=Usage.of(input_tokens=2)),
        call("late", scope="theirs", started_ns=96, ended_ns=201, usage=Usage()),
    ]
    assert judge(calls, {}) == {"first": COUNTED, "second": COUNTED, "late": duplicate_of("second")}


def test_as_many_as_can_be_are_matched():
    # "any" could be either of ours, but "other" can only be the silent one.
    calls = [
        call("known", usage=Usage.of(input_tokens=1), started_ns=1),
        call("silent", usage=Usage(), started_ns=0),
        call("any", scope="theirs", usage=Usage(), started_ns=0),
        call("other", scope="theirs", usage=Usage.of(input_tokens=2), started_ns=1),
    ]
    verdicts = judge(calls, {})
    assert {span for span, verdict in verdicts.items() if verdict.counted} == {"known", "other"}


def test_three_scopes_report_one_call_together():
    calls = [call(scope, scope=scope, started_ns=at) for at, scope in enumerate("abc")]
    verdicts = judge(calls, {})
    assert [verdict.counted for verdict in verdicts.values()].count(True) == 1


def test_hundreds_of_equal_parallel_calls_reported_twice_count_once():
    calls = [
        call(f"{scope}{index}", scope=scope) for scope in ("ours", "theirs") for index in range(300)
    ]
    assert sum(verdict.counted for verdict in judge(calls, {}).values()) == 300


@given(
    st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(0, 2)), max_size=6),
    st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(0, 2)), max_size=6),
)
def test_two_scopes_are_matched_as_many_times_as_can_be(ours, theirs):
    """Against the slow way: try every assignment."""
    left, right = (
        [
            call(
                f"{scope}{index}",
                scope=scope,
                started_ns=start,
                ended_ns=start + long,
                usage=Usage.of(input_tokens=tokens),
            )
            for index, (start, long, tokens) in enumerate(shape)
        ]
        for scope, shape in (("ours", ours), ("theirs", theirs))
    )

    def most(rest, free):
        if not rest:
            return 0
        first, *others = rest
        tries = [most(others, free)]
        for each in free:
            same = first.usage == each.usage
            overlap = max(first.started_ns, each.started_ns) <= min(first.ended_ns, each.ended_ns)
            if same and overlap:
                tries.append(1 + most(others, [other for other in free if other is not each]))
        return max(tries)

    verdicts = judge(left + right, {}).values()
    assert sum(verdict.because == "duplicate" for verdict in verdicts) == most(left, right)


few_usages = st.sampled_from(
    [Usage(), Usage.of(input_tokens=1), Usage.of(input_tokens=2), Usage.of(total_tokens=1)]
)
crowds = st.lists(
    st.tuples(
        st.sampled_from(["ours", "theirs", "others"]),
        st.sampled_from(["one", "two", None]),
        st.sampled_from(["m", "n", None]),
        st.sampled_from(["r", None, None]),
        st.integers(0, 4).map(lambda at: at * 3_000_000),
        st.integers(0, 4).map(lambda at: at * 3_000_000),
        few_usages,
    ),
    min_size=1,
    max_size=24,
)


@given(crowds)
def test_equal_records_are_matched_as_if_one_by_one(crowd):
    calls = [
        Call(str(index), None, scope, step, model, response, start, start + long, usage)
        for index, (scope, step, model, response, start, long, usage) in enumerate(crowd)
    ]

    def grouped(groups):
        return [[each.span_id for each in group] for group in groups]

    assert grouped(same_calls(calls)) == grouped(slowly(calls))


def test_thousands_of_equal_parallel_calls_are_matched_without_comparing_each_pair():
    calls = [
        call(f"{scope}{index}", scope=scope)
        for scope in ("ours", "theirs")
        for index in range(5_000)
    ]
    assert len(same_calls(calls)) == 5_000
