"""What the view `usage_conflicts` lists, and that it lists nothing else."""

from __future__ import annotations

import pytest

USAGE = "spanflow.usage."
ASKED = (
    "SELECT what, span_id, field, on_spans, in_ledger, reason FROM usage_conflicts "
    "ORDER BY what, span_id, field"
)


def told(**numbers):
    return {f"{USAGE}{name}": number for name, number in numbers.items()}


def conflicts(make, ledger):
    rows = make.ask(ledger, ASKED)
    return [(*row.values(),) for row in rows]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "traces.duckdb"


TEN = told(input_tokens=7, output_tokens=3, total_tokens=10, llm_calls=1, tool_calls=0)


def one_call(make, **fields):
    """A turn of one step of one call, as capture writes it."""
    return [
        make.turn(1, attributes=TEN, until=9),
        make.step(2, "a", attributes=TEN, at=1, until=8),
        make.llm(3, 2, (7, 3), total_tokens=10, at=2, until=4, **fields),
    ]


def test_where_all_agree_nothing_is_listed(make, path):
    make.write(path, [*one_call(make), make.turn(20, attributes=told(llm_calls=0))])
    assert conflicts(make, path) == []


def test_records_from_before_totals_were_told_are_no_conflict(make, path):
    make.write(path, [make.turn(1), make.step(2, "a"), make.llm(3, 2, (7, 3), total_tokens=10)])
    assert conflicts(make, path) == []


def test_a_call_that_came_after_its_turn(make, path):
    late = make.llm(4, None, (5, 1), total_tokens=6, scope="theirs", at=5, until=20)
    make.write(path, [*one_call(make), late])
    assert conflicts(make, path) == [
        ("turn", make.ident(1), field, on_spans, in_ledger, "late_span")
        for field, on_spans, in_ledger in (
            ("input_tokens", 7, 12),
            ("llm_calls", 1, 2),
            ("output_tokens", 3, 4),
            ("total_tokens", 10, 16),
        )
    ]


def test_a_call_that_outlived_the_step_around_its_own(make, path):
    make.write(
        path,
        [
            make.turn(1, attributes=TEN, until=9),
            make.step(2, "a", attributes=told(llm_calls=0), at=1, until=3),
            make.step(4, "a/b", parent_step_id=make.ident(2), attributes=TEN, at=1, until=8),
            make.llm(3, 4, (7, 3), total_tokens=10, at=2, until=4),
        ],
    )
    assert {(what, span, reason) for what, span, *_, reason in conflicts(make, path)} == {
        ("step", make.ident(2), "late_span")
    }


def test_a_call_whose_record_was_lost(make, path):
    make.write(path, one_call(make)[:2])
    found = conflicts(make, path)
    assert {(row[0], row[2], row[3], row[4], row[5]) for row in found} == {
        (what, field, on_spans, 0, "lost_record")
        for what in ("step", "turn")
        for field, on_spans in (
            ("input_tokens", 7),
            ("llm_calls", 1),
            ("output_tokens", 3),
            ("total_tokens", 10),
        )
    }


def test_a_call_without_usage_unless_it_failed(make, path):
    numbers = told(llm_calls=2, tool_calls=0, calls_without_usage=2)
    make.write(
        path,
        [
            make.turn(1, attributes=numbers),
            make.step(2, "a", attributes=numbers),
            make.llm(3, 2),
            make.llm(4, 2, status="error"),
        ],
    )
    assert conflicts(make, path) == [
        ("call", make.ident(3), "total_tokens", None, None, "missing_usage")
    ]


def test_numbers_that_were_refused_or_deny_each_other(make, path):
    numbers = told(llm_calls=2, tool_calls=0, input_tokens=7, output_tokens=3, total_tokens=4)
    make.write(
        path,
        [
            make.turn(1, attributes=numbers),
            make.llm(3, None, (7, 3), total_tokens=4, usage_flags=["inconsistent_total"]),
            make.llm(4, None, usage_flags=["refused"]),
        ],
    )
    assert conflicts(make, path) == [
        ("call", make.ident(3), "total_tokens", 10, 4, "inconsistent_total"),
        ("call", make.ident(4), "total_tokens", None, None, "refused"),
    ]


def test_calls_inside_a_call_that_spent_something_else(make, path):
    inner = make.llm(4, 2, (9, 3), total_tokens=12, scope="theirs", at=2, until=4)
    inner["parent_span_id"] = make.ident(3)
    make.write(path, [*one_call(make), inner])
    assert conflicts(make, path) == [("call", make.ident(3), "total_tokens", 12, 10, "nested_span")]


def test_another_scope_that_told_something_else_of_the_same_call(make, path):
    same = {"response_id": "r", "scope": "theirs", "at": 2, "until": 4}
    make.write(
        path, [*one_call(make, response_id="r"), make.llm(4, 2, (9, 3), total_tokens=12, **same)]
    )
    rows = conflicts(make, path)
    assert [row for row in rows if row[0] == "call"] == [
        ("call", make.ident(3), "total_tokens", 10, 12, "duplicate_scope")
    ]
    assert {row[5] for row in rows} == {"duplicate_scope"}


@pytest.mark.parametrize(("agent", "listed"), [(10, []), (25, [(25, 10)])])
def test_an_agent_whose_own_sum_is_not_that_of_its_calls(make, path, agent, listed):
    calls = one_call(make)
    calls[2]["parent_span_id"] = make.ident(5)
    span = make.record(
        "span", 5, name="invoke_agent", total_tokens=agent, step_id=2, parent_span_id=2, scope="x"
    )
    make.write(path, [*calls, span])
    assert conflicts(make, path) == [
        ("agent", make.ident(5), "total_tokens", *numbers, "framework_total") for numbers in listed
    ]
