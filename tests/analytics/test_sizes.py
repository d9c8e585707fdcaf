"""Funnels of many engagements, in a process of its own: twenty times the figures promised."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from spanflow.ledger.journal import Journal
from spanflow.ledger.publish import refresh

STEPS = [f"s{nth}" for nth in range(5)]
# The best of five, in the processor's time: others may keep the machine busy meanwhile.
ASK = """
import duckdb, json, resource, sys, time
connection = duckdb.connect(sys.argv[1], read_only=True)
connection.execute("SELECT count(*) FROM meta").fetchall()
def peak_mb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
before = peak_mb()
def best_ms(query):
    took = []
    for _ in range(5):
        began = time.process_time()
        rows = connection.execute(query).fetchall()
        took.append((time.process_time() - began) * 1000)
    return min(took), rows
funnel_ms, rows = best_ms(sys.argv[2])
newest_ms, _ = best_ms("FROM engagements ORDER BY started_at DESC LIMIT 50")
print(json.dumps([rows[0][2], funnel_ms, newest_ms, peak_mb() - before]))
"""


def fill(ledger, make, engagements):
    journal = Journal(ledger)
    for number in range(engagements):
        turn = number * 10 + 1
        about = {"engagement_id": f"e{number}", "trace": turn}
        journal.append(make.turn(turn, at=number, until=number + 5, **about))
        for nth, name in enumerate(STEPS[: 1 + number % 5]):
            journal.append(
                make.step(turn + nth + 1, name, turn=turn, at=number + nth, superstep=nth, **about)
            )
    journal.close()
    refresh(ledger)


@pytest.mark.slow
@pytest.mark.parametrize(("engagements", "limit_ms"), [(10_000, 2_000), (100_000, 20_000)])
def test_a_funnel_of_many_engagements_answers_at_once(ledger, make, engagements, limit_ms):
    fill(ledger, make, engagements)
    question = f"FROM funnel({STEPS})"
    done = subprocess.run(
        [sys.executable, "-c", ASK, str(ledger), question],
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )
    reached, funnel_ms, newest_ms, grown_mb = json.loads(done.stdout)
    assert reached == engagements
    assert funnel_ms < limit_ms, (funnel_ms, newest_ms, grown_mb)
    if engagements == 10_000:
        assert newest_ms < 400
        assert grown_mb < 250
