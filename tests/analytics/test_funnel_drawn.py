"""Funnels over random journeys, cell by cell as a slow and obvious reference counts them."""

from __future__ import annotations

import itertools
from datetime import timedelta

from analytics.answers import funnel, funnel_engagements, paths_of
from analytics.asking import agree, drawn, published, restrictions
from analytics.drawn import SEEDS, THOROUGH
from hypothesis import given
from hypothesis import strategies as st

# Names as people give them: whole paths, last segments, nothing anybody knows.
NAMES = ["a", "b", "c", "ask", "sub", "done", "sub/inner", "inner", "other/x", "y", "x", "nowhere"]
WITHIN = [timedelta(0), timedelta(milliseconds=5), timedelta(seconds=1), timedelta(days=3)]
COUNTS = ("advanced", "waiting", "active", "failed", "interrupted", "dropped")


def modes(dice):
    """Draw how the steps must follow each other."""
    if dice.random() < 0.4:
        return {}
    return {"ordered": True} if dice.random() < 0.5 else {"within": dice.choice(WITHIN)}


def taken(asked):
    """Draw the steps to ask for: any, or some that somebody took, in that order."""
    dice = asked.dice
    visits = dice.choice(asked.at()).visits
    if not visits or dice.random() < 0.3:
        return dice.choices(NAMES, k=dice.choice([1, 2, 3, 3, 4, 5]))
    some = dice.sample(visits, min(len(visits), dice.choice([2, 2, 3, 4])))
    return [visit.path for visit in sorted(some, key=lambda one: one.started_ns)]


@THOROUGH
@given(seeds=SEEDS, seed=st.integers(0, 2**24))
def test_a_funnel_is_what_a_slow_count_says(make, seeds, seed):
    with published(*drawn(make, seeds), seed=seed) as asked:
        paths = paths_of(asked.at())
        for _ in range(20):
            common, given_ = restrictions(asked)
            steps = taken(asked)
            mode = modes(asked.dice)
            found = asked.rows("funnel", steps, **mode, **given_)
            some = asked.chosen(**common)
            agree(found, funnel(some, steps, paths=paths, **mode), "position")
            assert [row["position"] for row in found] == list(range(1, len(steps) + 1))
            drilled = asked.rows("funnel_engagements", steps, **mode, **given_)
            wanted = funnel_engagements(some, steps, paths=paths, **mode)
            agree(drilled, wanted, "position", "engagement_id")
            holds(found, drilled)


def holds(rows, drilled):
    """Hold a funnel against itself, and against the engagements it is made of."""
    for row in rows:
        assert row["reached"] == sum(row[name] for name in COUNTS)
        for rate in (row["conversion_rate"], row["step_rate"]):
            assert rate is None or 0 <= rate <= 1
        mine = [one for one in drilled if one["position"] == row["position"]]
        assert row["reached"] == len(mine)
        assert row["visits"] == sum(one["visits"] for one in mine)
        for name in COUNTS:
            assert row[name] == sum(one["outcome"] == name for one in mine)
        assert (row["total_tokens"] or 0) == sum(one["total_tokens"] or 0 for one in mine)
    for one, other in itertools.pairwise(rows):
        assert (one["step_rate"] is None) == (one["reached"] == 0), (one, other)
