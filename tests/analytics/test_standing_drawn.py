"""Statuses, places, questions and visits at any instant of random journeys, as the rules say."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

from analytics.answers import model_calls, moment, spent
from analytics.asking import agree, drawn, published
from analytics.drawn import SEEDS, THOROUGH
from hypothesis import given
from hypothesis import strategies as st


def instants(asked):
    """Yield parameters for the present and for some instants."""
    dice = asked.dice
    yield {}
    for _ in range(8):
        given_ = {"as_of": dice.choice(asked.moments())}
        if dice.random() < 0.5:
            given_["idle_after"] = dice.choice([timedelta(0), timedelta(minutes=1)])
        yield given_


@THOROUGH
@given(seeds=SEEDS, seed=st.integers(0, 2**24))
def test_where_everybody_stands_at_any_instant(make, seeds, seed):
    with published(*drawn(make, seeds), seed=seed) as asked:
        for given_ in instants(asked):
            engagements = asked.at(**given_)
            wanted = []
            for one in engagements:
                sums = spent(one.calls, ("total_tokens",), repeated=True)
                wanted.append(
                    {
                        "engagement_id": one.engagement_id,
                        "status": one.status,
                        "abandon_reason": one.abandon_reason,
                        "last_step": one.last_step,
                        "dropped_at": one.dropped_at,
                        "started_at": moment(one.started_ns),
                        "last_seen_at": moment(one.last_seen_ns),
                        "turns": len(one.turns),
                        "working_ms": one.shares[0],
                        "waiting_ms": one.shares[1],
                        "llm_calls": len(model_calls(one.calls)),
                        **sums,
                    }
                )
            agree(asked.rows("engagements", **given_), wanted, "engagement_id")
            given_.pop("idle_after", None)
            found = Counter(
                (row["engagement_id"], row["path"], row["waited_ms"], row["is_open"])
                for row in asked.rows("waits", **given_)
            )
            assert found == Counter(
                (one.engagement_id, wait.path, wait.waited_ms, wait.answered_ns is None)
                for one in engagements
                for wait in one.waits
            )


@THOROUGH
@given(seeds=SEEDS, seed=st.integers(0, 2**24))
def test_what_was_visited_by_any_instant(make, seeds, seed):
    with published(*drawn(make, seeds), seed=seed) as asked:
        for given_ in instants(asked):
            given_.pop("idle_after", None)
            wanted = []
            for one in asked.at(**given_):
                for visit in one.visits:
                    sums = spent(visit.calls, ("total_tokens",), repeated=True)
                    wanted.append(
                        {
                            "engagement_id": one.engagement_id,
                            "step_id": visit.last.told["span_id"],
                            "path": visit.path,
                            "started_at": moment(visit.started_ns),
                            "working_ms": visit.working_ms,
                            "status": visit.last.status,
                            "executions": len(visit.executions),
                            "trace_id": visit.last.told["trace_id"],
                            **sums,
                        }
                    )
            agree(asked.rows("visits", **given_), wanted, "engagement_id", "step_id")
