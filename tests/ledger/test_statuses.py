"""The status of engagements, compared with the rules written down slowly."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spanflow.ledger.ingest import ingest
from spanflow.ledger.journal import Journal

TURNS = st.fixed_dictionaries(
    {
        "outcome": st.sampled_from(
            ["completed", "paused", "failed", "cancelled", "left", None, "dead"]
        ),
        "reaches": st.booleans(),
        "goals": st.booleans(),
        "on_thread": st.booleans(),
        "lasts_s": st.integers(1, 3000),
        "gap_s": st.integers(1, 3000),
    }
)


def expected(turns, instant_s, idle_s):  # noqa: PLR0911 - one line a rule
    """Status, goal reached, and whether it was left, of turns that began before the instant."""
    seen = [turn for turn in turns if turn["at_s"] <= instant_s]
    if not seen:
        return None
    for turn in seen:
        ended = (
            turn["outcome"] not in (None, "dead") and turn["at_s"] + turn["lasts_s"] <= instant_s
        )
        turn["then"] = turn["outcome"] if ended else None
        if turn["outcome"] == "dead" and turn["at_s"] + 1 <= instant_s:
            turn["then"] = "interrupted"
    last = seen[-1]
    last_seen = max(
        min(t["at_s"] + (t["lasts_s"] if t["outcome"] not in (None, "dead") else 1), instant_s)
        for t in seen
    )
    idle = instant_s - last_seen > idle_s
    if any(turn["then"] is None for turn in seen):
        return "active"
    if any(turn["reaches"] and turn["at_s"] + 1 <= instant_s for turn in seen):
        return "completed"
    if last["then"] == "paused":
        return "abandoned" if idle else "paused"
    if last["then"] in ("failed", "interrupted"):
        return last["then"]
    if any(turn["goals"] for turn in seen) or last["then"] in ("cancelled", "left"):
        return "active" if last["on_thread"] and not idle else "abandoned"
    return "completed"


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    engagements=st.lists(st.lists(TURNS, min_size=1, max_size=4), min_size=5, max_size=40),
    instants=st.lists(st.integers(0, 12_000), min_size=3, max_size=8),
    idle_s=st.sampled_from([60, 1800]),
)
def test_the_status_at_any_instant_follows_the_rules(make, engagements, instants, idle_s):
    alive, dead = [], []
    number = 0
    for index, turns in enumerate(engagements):
        at_s = 0
        for turn in turns:
            number += 10
            turn["at_s"] = at_s
            at_s += turn["lasts_s"] + turn["gap_s"]
            ended = turn["outcome"] not in (None, "dead")
            common = {
                "engagement_id": f"e{index}",
                "goals": ["g"] if turn["goals"] else None,
                "on_thread": turn["on_thread"],
            }
            begin = turn["at_s"] * 1000
            writer = dead if turn["outcome"] == "dead" else alive
            if ended:
                until = begin + turn["lasts_s"] * 1000
                writer.append(
                    make.turn(number, at=begin, until=until, status=turn["outcome"], **common)
                )
            else:
                writer.append(make.turn(number, at=begin, phase="start", **common))
            reached = {"goal": "g"} if turn["reaches"] else {}
            writer.append(
                make.step(
                    number + 1,
                    "a",
                    turn=number,
                    at=begin,
                    until=begin + 1000,
                    engagement_id=f"e{index}",
                    **reached,
                )
            )
    with tempfile.TemporaryDirectory() as folder:
        ledger = Path(folder, "traces.duckdb")
        kept, gone = Journal(ledger), Journal(ledger)
        for journal, records in ((kept, alive), (gone, dead)):
            for one in records:
                assert journal.append(one)
        gone.close()
        ingest(ledger)
        with duckdb.connect(f"{ledger}.d/store.duckdb", read_only=True) as connection:
            for instant_s in instants:
                instant = datetime.fromtimestamp(make.T0 / 1e9, UTC).replace(
                    tzinfo=None
                ) + timedelta(seconds=instant_s)
                found = dict(
                    connection.execute(
                        "SELECT engagement_id, status "
                        "FROM engagements(as_of := ?, idle_after := ?)",
                        [instant, timedelta(seconds=idle_s)],
                    ).fetchall()
                )
                wanted = {
                    f"e{index}": status
                    for index, turns in enumerate(engagements)
                    if (status := expected(turns, instant_s, idle_s)) is not None
                }
                assert found == wanted
        kept.close()
