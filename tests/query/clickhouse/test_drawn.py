"""Random journeys, as records in a ledger and as spans in ClickHouse: every answer is the same."""

from __future__ import annotations

from datetime import timedelta

import pytest
from analytics.asking import drawn, published, restrictions
from analytics.drawn import SEEDS, THOROUGH
from hypothesis import given, settings
from hypothesis import strategies as st
from query.clickhouse.spans_of_records import spans_of

from spanflow.query.clickhouse import open_engine
from spanflow.query.engine import DuckDBEngine

NAMES = ["a", "b", "sub", "done", "other", "sub/inner", "sub/ask", "other/x", "nowhere", "inner"]
KEYS = ["user_id", "session_id", "engagement", "service", "status", "day", "hour", "tier", "n"]
CALL_KEYS = [*KEYS, "model", "provider", "operation", "step", "agent", "caller", "a.b"]
SIDES = [
    {"tier": "pro"}, {"tier": "free"}, {"n": 1}, {"name": "booking"}, {"user_id": None},
    {"name": "support", "tier": "pro"}, {"service_name": "desk"}, {"session_id": "s1", "n": True},
]  # fmt: skip


def question(dice):
    """Draw a question with arguments of its own."""
    ordered = dice.choice([{}, {"ordered": True}])
    within = dice.choice(
        [{}, {}, {"within": timedelta(milliseconds=dice.choice([0, 5, 50, 9**7]))}]
    )
    steps = {"steps": dice.sample(NAMES, dice.randrange(1, 5)), **ordered, **within}
    split = dice.choice([{}, {"split": dice.choice(CALL_KEYS)}])
    period = {"by": dice.choice(["day", "week", "month"])}
    how = dice.choice([{}, {"depth": 1}, {"depth": 3}, {"nested": True}])
    some = dice.choice([{}, {"status": "abandoned"}, {"reached": "done"}, {"reached": "sub/b"}])
    sides = dict(zip("ab", dice.sample(SIDES, 2), strict=True))
    return [
        ("funnel", steps),
        ("funnel_engagements", steps),
        ("journeys", some),
        ("paths", how),
        ("drop_offs", {}),
        ("step_stats", {}),
        ("usage_by", {"by": dice.choice(CALL_KEYS), **split}),
        ("engagements_by", {"key": dice.choice(KEYS)}),
        ("cohorts", period),
        ("retention", period),
        ("compare", sides),
    ]


@pytest.mark.slow
@pytest.mark.timeout(600)
@settings(THOROUGH, max_examples=2)
@given(dice=st.tuples(SEEDS, st.lists(st.integers(0, 2**24), max_size=8), st.integers(0, 2**24)))
def test_every_answer_is_the_ledgers(make, exported, differ, dice):
    seeds, calls, seed = dice
    records, gone = drawn(make, seeds, calls)
    # A turn that never ended exports no span; what becomes of those has tests of its own.
    never = {one["turn_id"] for one in records if one["phase"] == "start" and one["kind"] == "turn"}
    records = [one for one in records if one.get("turn_id") not in never]
    other = open_engine(exported.make("drawn", spans_of(records)))
    with published(records, gone, seed=seed) as asked:
        ledger = DuckDBEngine(asked.connection)
        for name, arguments in [*question(asked.dice), *question(asked.dice)]:
            common, _ = restrictions(asked)
            if any(isinstance(one, list | dict) for one in common.get("metadata", {}).values()):
                del common["metadata"]
            _, wrong = differ(ledger, other, name, {**arguments, **common})
            assert wrong == [], (name, arguments, common)
    other.close()
