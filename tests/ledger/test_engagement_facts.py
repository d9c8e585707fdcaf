"""The rows kept for engagements say what their turns add up to, at whatever instant one asks."""

from __future__ import annotations

import tempfile
from pathlib import Path

import duckdb
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spanflow.ledger.gather import ingest
from spanflow.ledger.journal import Journal

FOREVER = 2**63 - 1
TURNS = st.fixed_dictionaries(
    {
        "turn": st.integers(1, 6),
        "engagement_id": st.sampled_from(["e1", "e2", "e3"]),
        "phase": st.sampled_from(["start", "end"]),
        "at": st.integers(0, 50),
    },
    optional={
        "until": st.integers(0, 90),
        "status": st.sampled_from(["completed", "paused", "failed", "left", "cancelled"]),
        "goals": st.just(["g"]),
        "goal": st.just("g"),
        "on_thread": st.booleans(),
        "user_id": st.sampled_from(["u", "v"]),
    },
)


def summed(connection: duckdb.DuckDBPyConnection) -> list[tuple[object, ...]]:
    return connection.execute(
        f"FROM engagement_sums({FOREVER}, (SELECT list(DISTINCT engagement_id) FROM turn_facts)) "
        "ORDER BY ALL"
    ).fetchall()


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rounds=st.lists(st.lists(st.tuples(TURNS, st.booleans()), max_size=5), max_size=4))
def test_kept_rows_equal_what_all_turns_add_up_to(make, rounds):
    with tempfile.TemporaryDirectory() as folder:
        ledger = Path(folder, "t.duckdb")
        living = Journal(ledger)
        for records in rounds:
            dying = Journal(ledger)
            for number, (told, dies) in enumerate(records):
                fields = {**told, "trace": told["turn"]}
                span = fields.pop("turn")
                journal = dying if dies else living
                journal.append(make.turn(span, **fields))
                journal.append(make.llm(100 + number, None, (3, 4), turn=span, trace=span))
            living.seal()
            dying.close()
            ingest(ledger)
        if not any(rounds):
            return
        with duckdb.connect(f"{ledger}.d/store.duckdb") as connection:
            kept = connection.execute("FROM engagement_facts ORDER BY ALL").fetchall()
            assert kept == summed(connection)
            # Whatever way it comes by its sums, the macro says one thing.
            for instant in ("2026-09-21 14:13:20.02", "2026-09-21 14:13:20.06", "2030-01-01"):
                asked = f"FROM engagements(as_of := TIMESTAMP '{instant}') ORDER BY ALL"
                by_facts = connection.execute(asked).fetchall()
                # Nothing is final now: every engagement is summed up anew.
                connection.execute("BEGIN; UPDATE engagement_facts SET last_seen_ns = 9e18::BIGINT")
                by_turns = connection.execute(asked).fetchall()
                connection.execute("ROLLBACK")
                assert by_facts == by_turns
        living.close()
