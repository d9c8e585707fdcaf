"""What ClickHouse answers where the spans do not tell all: never a wrong number."""

from __future__ import annotations

from datetime import timedelta

import pytest
from analytics.asking import moment
from query.clickhouse.spans_of_records import spans_of

from spanflow.errors import LedgerError
from spanflow.query.clickhouse import open_engine
from spanflow.query.questions import Questions


@pytest.fixture
def asking(exported):
    """Open a table that holds the spans of some records."""
    opened = []

    def ask(records, *, times=1):
        url = exported.make("spans", spans_of(records))
        for _ in range(times - 1):
            exported.add("spans", spans_of(records))
        opened.append(open_engine(url))
        return Questions(opened[-1])

    yield ask
    for engine in opened:
        engine.close()


def visit(make, **told):
    """A turn with two steps and a call in each."""
    return [
        make.step(2, "search", turn=1, at=0, until=10),
        make.llm(3, 2, (10, 5), at=1, until=2),
        make.step(4, "pay", turn=1, at=10, until=30),
        make.llm(5, 4, (1, 1), at=11, until=12),
        make.turn(1, until=40, **told),
    ]


def test_an_exporters_retry_changes_nothing(make, asking):
    once, twice = asking(visit(make)), None
    before = [once.journeys().rows, once.step_stats().rows, once.usage_by("model").rows]
    twice = asking(visit(make), times=3)
    assert [twice.journeys().rows, twice.step_stats().rows, twice.usage_by("model").rows] == before
    assert [row.total_tokens for row in twice.usage_by("model")] == [17]


def test_a_turn_without_its_own_span_goes_on_until_it_is_silent_too_long(make, asking):
    asked = asking(visit(make)[:-1])
    seen = moment(make.T0 + 30 * make.MS)
    [then] = asked.journeys(as_of=seen + timedelta(minutes=29))
    assert (then.status, then.name, then.llm_calls) == ("active", None, 0)
    [later] = asked.journeys(as_of=seen + timedelta(minutes=31))
    assert (later.status, later.dropped_at, later.last_step) == ("interrupted", "pay", "pay")
    [row] = asked.drop_offs(as_of=seen + timedelta(hours=1))
    assert (row.step, row.status, row.of_reached) == ("pay", "interrupted", 1.0)


@pytest.mark.parametrize("question", ["usage_by", "step_stats"])
def test_calls_that_are_missing_are_told_and_not_left_out(make, exported, question):
    kept = [s for s in spans_of(visit(make)) if s.attributes.get("gen_ai.usage.input_tokens") != 1]
    engine = open_engine(exported.make("spans", kept))
    with pytest.raises(LedgerError, match=r"turns with fewer calls than they told of .*: 1\."):
        engine.ask(question, {"by": "model"} if question == "usage_by" else {})
    # What spans tell of themselves is there all the same.
    assert [row["total_tokens"] for row in engine.ask("journeys", {})] == [17]
    engine.close()


def test_a_call_inside_another_is_that_call_seen_from_further_inside(make, exported):
    records = visit(make)
    inner = make.llm(6, 4, (1, 1), at=11, until=12, scope="other")
    between = make.record("span", 7, at=11, until=12, parent_span_id=records[3]["span_id"])
    inner["parent_span_id"] = between["span_id"]
    engine = open_engine(exported.make("spans", spans_of(records) + spans_of([between, inner])))
    [row] = engine.ask("usage_by", {"by": "model"})
    assert (row["calls"], row["total_tokens"]) == (2, 17)
    engine.close()


def test_a_call_that_two_tell_side_by_side_is_an_error_here(make, exported):
    records = visit(make)
    twin = make.llm(6, 4, (1, 1), at=11, until=12, scope="other")
    engine = open_engine(exported.make("spans", spans_of(records) + spans_of([twin])))
    with pytest.raises(LedgerError, match=r"calls that several spans may tell: 1\."):
        engine.ask("usage_by", {"by": "model"})
    engine.close()


def test_names_of_steps_are_told_apart(make, asking):
    records = [
        make.step(2, "a", turn=1, at=0, until=20),
        make.step(3, "ask", path="a/ask", parent_step_id=2, turn=1, at=1, until=9),
        make.step(4, "b", turn=1, at=20, until=40),
        make.step(5, "ask", path="b/ask", parent_step_id=4, turn=1, at=21, until=30),
        make.turn(1, until=50),
    ]
    asked = asking(records)
    with pytest.raises(LedgerError, match="the step ask could be any of a/ask, b/ask"):
        asked.funnel(["ask"])
    assert [(row.step, row.reached) for row in asked.funnel(["b/ask", "nobody's"])] == [
        ("b/ask", 1),
        ("nobody's", 0),
    ]
    with pytest.raises(LedgerError, match="60 steps at most"):
        asked.funnel(["a"] * 61)


def test_the_table_may_be_another_and_must_be_there(exported):
    engine = open_engine(f"clickhouse://127.0.0.1:{exported.port}/default?table=no_such")
    with pytest.raises(LedgerError, match=r"ClickHouse: .*no_such"):
        engine.ask("journeys", {})
    engine.close()


@pytest.mark.parametrize(
    ("threads", "waited_ms"),
    [((None, "t"), 90.0), (("t", None), 90.0), (("t", "t"), 90.0), (("t", "u"), None)],
)
@pytest.mark.parametrize("kind", ["resume", "message"])
def test_plain_code_answers_and_gives_up_what_any_thread_asks(
    make, asking, kind, threads, waited_ms
):
    asked, later = threads
    moment_ns = make.T0 + 10 * make.MS
    wait = {"kind": "wait", "name": "wait", "at_ns": moment_ns, "payload": {"id": "p"}}
    told = {"turn_kind": kind, "answers": ["*"] if kind == "resume" else None}
    asked_of = asking(
        [
            make.step(
                2, "ask", turn=1, until=10, status="waiting", events=[wait], execution_id="x"
            ),
            make.turn(1, until=10, status="paused", conversation_id=asked),
            make.turn(11, at=100, until=110, conversation_id=later, **told),
        ]
    )
    [row] = asked_of.step_stats()
    assert (row.step, row.waited, row.p50_waiting_ms) == ("ask", 1, waited_ms)


def test_a_turn_without_a_step_leaves_an_engagement_where_it_stood(make, asking):
    told = {"turn_kind": "resume", "answers": ["*"], "resolution": "gave_up"}
    asked_of = asking(
        [
            make.step(2, "ask", turn=1, until=10, status="waiting"),
            make.turn(1, until=10, status="paused"),
            make.turn(11, at=100, until=110, **told),
        ]
    )
    [row] = asked_of.drop_offs()
    assert (row.step, row.reason) == ("ask", "gave_up")
