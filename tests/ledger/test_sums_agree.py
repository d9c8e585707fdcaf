"""Whoever reports a call, in whatever order and from whichever turn, it is added up once."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

# What can be reported of one call: by ours, by others beside or around or inside it, late without
# its step, or by two at once.
WAYS = ("ours", "theirs", "beside", "around", "inside", "late", "three", "twins")


@dataclass(frozen=True)
class Made:
    """One call that was really made."""

    turn: int
    place: str
    given: int
    produced: int
    way: str


made = st.builds(
    Made,
    st.integers(1, 3),
    st.sampled_from(["top", "inner", "deep", "none"]),
    st.integers(0, 50),
    st.integers(0, 50),
    st.sampled_from(WAYS),
)


def step_ids(turn):
    """The ids of a turn's steps: each but the first runs inside the one before."""
    return dict(zip(("top", "inner", "deep"), range(turn * 100, turn * 100 + 3), strict=True))


def reports(make, number, call):
    """Every record of one call; no two calls happen at the same time but twins."""
    spans = itertools.count(10_000 + number * 10)
    steps = step_ids(call.turn)
    at = 10 * number

    def report(scope, *, inside=None, in_step=True, ns=0):
        span = next(spans)
        step = steps.get(call.place) if in_step else None
        record = make.llm(
            span,
            step,
            (call.given, call.produced),
            total_tokens=call.given + call.produced,
            turn=call.turn,
            trace=call.turn,
            scope=scope,
            at=at,
            until=at + 5,
        )
        record["started_ns"] += ns
        record["parent_span_id"] = make.ident(inside or step or call.turn)
        return record, span

    ours, span = report("spanflow")
    found = {
        "ours": lambda: [ours],
        "theirs": lambda: [report("theirs")[0]],
        "beside": lambda: [ours, report("theirs", ns=7)[0]],
        "inside": lambda: [ours, report("theirs", inside=span)[0]],
        "late": lambda: [ours, report("late", in_step=False, ns=7)[0]],
        "three": lambda: [ours, report("theirs", ns=3)[0], report("others", ns=5)[0]],
        "twins": lambda: [ours, *(report(each)[0] for each in ("spanflow", "theirs", "theirs"))],
    }
    if call.way == "around":
        outer, span = report("theirs")
        return [outer, {**ours, "parent_span_id": make.ident(span)}]
    return found[call.way]()


@pytest.mark.slow
@pytest.mark.timeout(600)
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(made, max_size=20), st.data())
def test_calls_steps_turns_and_engagements_have_the_same_sums(make, calls, data):
    records = [
        report for number, call in enumerate(calls, 1) for report in reports(make, number, call)
    ]
    for turn in range(1, 4):
        records.append(make.turn(turn, trace=turn, at=turn, until=900))
        around = None
        for name, span in step_ids(turn).items():
            within = {} if around is None else {"parent_step_id": around, "parent_span_id": around}
            records.append(
                make.step(span, name, turn=turn, trace=turn, at=turn, until=900, **within)
            )
            around = span
    shuffled = data.draw(st.permutations(records))
    cut = data.draw(st.integers(0, len(records)))
    with TemporaryDirectory() as folder:
        ledger = Path(folder) / "traces.duckdb"
        for batch in filter(None, (shuffled[:cut], shuffled[cut:])):
            make.write(ledger, batch)
            make.ask(ledger, "FROM turns")
        asked = (
            "SELECT turn_id, sum(total_tokens) AS total, count(*) AS calls FROM llm_calls "
            "WHERE counted {} GROUP BY turn_id"
        )

        def by_turn(query):
            return {row["turn_id"]: (row["total"], row["calls"]) for row in make.ask(ledger, query)}

        of_calls, outside = by_turn(asked.format("")), by_turn(asked.format("AND step_id IS NULL"))
        of_turns = by_turn("SELECT turn_id, total_tokens AS total, llm_calls AS calls FROM turns")
        of_tops = by_turn(
            "SELECT turn_id, total_tokens AS total, llm_calls AS calls FROM steps "
            "WHERE parent_step_id IS NULL"
        )
        [whole] = make.ask(ledger, "SELECT total_tokens, llm_calls FROM engagements")
        make.close(ledger)
    wanted = {
        make.ident(turn): (
            sum((c.given + c.produced) * (1 + (c.way == "twins")) for c in calls if c.turn == turn),
            sum(1 + (c.way == "twins") for c in calls if c.turn == turn),
        )
        for turn in range(1, 4)
    }
    assert of_turns == wanted
    assert {turn: of_calls.get(turn, (0, 0)) for turn in wanted} == wanted
    nothing = (0, 0)
    assert {
        turn: tuple(map(sum, zip(of_tops[turn], outside.get(turn, nothing), strict=True)))
        for turn in wanted
    } == wanted
    assert (*whole.values(),) == tuple(map(sum, zip(*wanted.values(), strict=True)))
