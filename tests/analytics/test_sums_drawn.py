"""Everything that is asked beside funnels, over random journeys, cell by cell as counted slowly."""

from __future__ import annotations

import json
from datetime import datetime

from analytics.answers import chosen, drop_offs, step_stats
from analytics.asking import agree, drawn, instant_ns, published, restrictions
from analytics.drawn import SEEDS, THOROUGH
from analytics.sums import (
    cohorts,
    compared,
    engagements_by,
    journeys,
    paths,
    retention,
    usage_by,
)
from hypothesis import given
from hypothesis import strategies as st

OF_ENGAGEMENTS = ["user_id", "session_id", "engagement", "service", "status", "day", "week"]
OF_CALLS = ["model", "provider", "operation", "step", "agent", "caller", "hour", "month"]
METADATA = ["tier", "n", "a.b", "nothing"]
DRAWN = given(seeds=SEEDS, seed=st.integers(0, 2**24))


@THOROUGH
@DRAWN
def test_steps_and_where_people_left(make, seeds, seed):
    with published(*drawn(make, seeds), seed=seed) as asked:
        for _ in range(10):
            common, given_ = restrictions(asked)
            some = asked.chosen(**common)
            agree(asked.rows("step_stats", **given_), step_stats(some), "step")
            found = asked.rows("drop_offs", **given_)
            agree(found, drop_offs(some), "step", "status", "reason")
            by_id = {one.engagement_id: one for one in some}
            for row in found:
                example = by_id[row["example_engagement_id"]]
                assert (example.dropped_at, example.status) == (row["step"], row["status"])
                assert 0 <= row["share"] <= 1


@THOROUGH
@DRAWN
def test_paths_and_journeys(make, seeds, seed):
    with published(*drawn(make, seeds), seed=seed) as asked:
        for _ in range(8):
            common, given_ = restrictions(asked)
            some = asked.chosen(**common)
            how = asked.dice.choice([{}, {"depth": 1}, {"depth": 3}, {"nested": True}])
            found = asked.rows("paths", **how, **given_)
            agree(found, paths(some, **how), "path")
            counts = [row["engagements"] for row in found]
            assert counts == sorted(counts, reverse=True)
            assert sum(counts) == len(some)
            narrow = asked.dice.choice([{}, {"status": "abandoned"}, {"reached": "sub/ask"}])
            rows = asked.rows("journeys", **narrow, **given_)
            for row in rows:
                row["metadata"] = None if row["metadata"] is None else json.loads(row["metadata"])
            agree(rows, journeys(some, **narrow), "engagement_id")


@THOROUGH
@DRAWN
def test_engagements_by_anything(make, seeds, seed):
    with published(*drawn(make, seeds), seed=seed) as asked:
        for key in [*OF_ENGAGEMENTS, *METADATA]:
            common, given_ = restrictions(asked)
            found = asked.rows("engagements_by", key, **given_)
            agree(found, engagements_by(asked.chosen(**common), key), "key")


@THOROUGH
@given(seeds=SEEDS, calls=st.lists(st.integers(0, 2**24), max_size=12), seed=st.integers(0, 2**24))
def test_usage_by_anything(make, seeds, calls, seed):
    with published(*drawn(make, seeds, calls), seed=seed) as asked:
        keys = [*OF_ENGAGEMENTS, *OF_CALLS, *METADATA]
        for by in keys:
            common, given_ = restrictions(asked)
            split = asked.dice.choice([None, None, *keys])
            more = {} if split is None else {"split": split}
            times = {name: common.pop(name, None) for name in ("since", "until")}
            is_narrowed = {"name", "user_id", "metadata"} & set(common)
            ids = {one.engagement_id for one in asked.chosen(**common)} if is_narrowed else None
            asked.told.now = {one.engagement_id: one for one in asked.at(**common)}
            wanted = usage_by(asked.told, ids, by, split, instant_ns(common.get("as_of")), **times)
            agree(asked.rows("usage_by", by, **more, **given_), wanted, "key", "split")


@THOROUGH
@DRAWN
def test_who_came_first_when_and_who_came_back(make, seeds, seed):
    with published(*drawn(make, seeds), seed=seed) as asked:
        for by in ("day", "week", "month"):
            common, given_ = restrictions(asked)
            some = asked.chosen(**common)
            agree(asked.rows("cohorts", by=by, **given_), cohorts(some, by), "cohort")
            found = asked.rows("retention", by=by, **given_)
            agree(found, retention(some, by), "cohort", "period")


SIDES = [
    {"tier": "pro"}, {"tier": "free"}, {"n": 1}, {"name": "booking"}, {"user_id": "u1"},
    {"name": "support", "tier": "pro"}, {"service_name": "desk"}, {"nothing": None},
]  # fmt: skip


@THOROUGH
@DRAWN
def test_two_groups_beside_each_other(make, seeds, seed):
    with published(*drawn(make, seeds), seed=seed) as asked:
        for _ in range(8):
            common, given_ = restrictions(asked)
            sides = asked.dice.sample(SIDES, 2)
            numbers = [compared(side_of(asked.chosen(**common), side)) for side in sides]
            wanted = [
                {
                    "metric": metric,
                    "a": a,
                    "b": b,
                    "difference": None if a is None or b is None else b - a,
                    "ratio": None if not a or b is None else b / a,
                }
                for (metric, a), b in zip(numbers[0].items(), numbers[1].values(), strict=True)
            ]
            given_sides = [
                side if asked.dice.random() < 0.5 else json.dumps(side) for side in sides
            ]
            agree(asked.rows("compare", *given_sides, **given_), wanted, "metric")


def side_of(engagements, side):
    columns = {key: side[key] for key in ("name", "user_id") if key in side}
    metadata = {k: v for k, v in side.items() if k not in (*columns, "service_name")}
    return [
        one
        for one in chosen(engagements, **columns, metadata=metadata)
        if "service_name" not in side or one.last_told("service_name") == side["service_name"]
    ]


@THOROUGH
@DRAWN
def test_parts_add_up_to_the_whole(make, seeds, seed):
    with published(*drawn(make, seeds), seed=seed) as asked:
        [whole] = asked.rows("funnel", ["a"])
        by_user = [
            asked.rows("funnel", ["a"], user_id=row["key"])[0]
            for row in asked.rows("engagements_by", "user_id")
            if row["key"] is not None
        ]
        drilled = asked.rows("funnel_engagements", ["a"])
        users = {row["engagement_id"]: row["user_id"] for row in asked.rows("journeys")}
        nobody = sum(users[row["engagement_id"]] is None for row in drilled)
        assert whole["reached"] == nobody + sum(row["reached"] for row in by_user)
        middle = datetime(2026, 9, 22)  # noqa: DTZ001
        halves = [
            asked.rows("funnel", ["a"], until=middle),
            asked.rows("funnel", ["a"], since=middle),
        ]
        for column in ("reached", "visits", "dropped", "advanced", "calls_without_usage"):
            assert whole[column] == sum(rows[0][column] for rows in halves)
        [every] = asked.connection.execute("SELECT count(*) FROM journeys()").fetchone()
        assert every == len(asked.told.by_engagement)
