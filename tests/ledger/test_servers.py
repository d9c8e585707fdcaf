"""Real agents in every shape in which servers run them: every run is in the ledger, whole."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import Any

import pytest
import serving


def start(shape: str, ledger, runs: int, *, ends: int = 0) -> list[float]:
    """Run one shape to its end and return how long its slowest runs took."""
    ended = subprocess.run(
        [sys.executable, serving.__file__, shape, str(ledger), str(runs)],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert ended.returncode == ends, ended.stderr
    assert ended.stderr == ""
    return [float(line) for line in ended.stdout.splitlines()]


def whole(make, ledger) -> Any:
    """Return how many engagements there are that completed with all their parts."""
    [found] = make.ask(
        ledger,
        "SELECT count(*) AS n, count(DISTINCT engagement_id) AS d, "
        "count(*) FILTER (status = 'completed' AND steps = 3 AND llm_calls = 1 "
        "AND total_tokens = 3) AS whole FROM engagements",
    )
    assert found["n"] == found["d"] == found["whole"]
    assert make.ask(ledger, "SELECT count AS n FROM diagnostics WHERE name = 'lost_records'") == [
        {"n": 0}
    ]
    return found["n"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shape", "own_runs"), [("prefork", 6), ("fork", 3), ("spawn", 0), ("forkserver", 0)]
)
def test_four_processes_of_300_runs_lose_nothing(ledger, make, shape, own_runs):
    slowest = start(shape, ledger, 300)
    assert len(slowest) == serving.PROCESSES
    assert max(slowest) < 30, "four processes share the machine's cores; nobody waits for a lock"
    assert whole(make, ledger) == serving.PROCESSES * 300 + own_runs
    [writers] = make.ask(ledger, "SELECT count(DISTINCT process_id) AS n FROM turns")
    assert writers["n"] == serving.PROCESSES + (own_runs > 0)


@pytest.mark.slow
@pytest.mark.parametrize("shape", ["threads", "asyncio"])
def test_runs_side_by_side_in_one_process_lose_nothing(ledger, make, shape):
    start(shape, ledger, 400)
    assert whole(make, ledger) == 400


@pytest.mark.parametrize(("shape", "ends"), [("left", 0), ("terminated", -signal.SIGTERM)])
def test_a_process_that_ends_right_after_a_run_has_everything_in_the_file(
    ledger, make, shape, ends
):
    import duckdb

    start(shape, ledger, 20, ends=ends)
    with duckdb.connect(str(ledger), read_only=True) as connection:
        rows = connection.execute("SELECT count(*) FROM engagements").fetchall()
    assert rows == [(20,)], "without any command"
    assert whole(make, ledger) == 20


def test_a_process_killed_inside_a_node_reads_interrupted_there(ledger, make):
    start("killed", ledger, 5, ends=-signal.SIGKILL)
    assert make.ask(
        ledger, "SELECT status, dropped_at, count(*) AS n FROM engagements GROUP BY ALL ORDER BY n"
    ) == [
        {"status": "interrupted", "dropped_at": "b", "n": 1},
        {"status": "completed", "dropped_at": None, "n": 5},
    ]
    [turn] = make.ask(ledger, "SELECT turn_id FROM turns WHERE outcome = 'interrupted'")
    assert make.ask(
        ledger,
        f"SELECT path, status FROM steps WHERE turn_id = '{turn['turn_id']}' ORDER BY started_at",
    ) == [{"path": "a", "status": "completed"}, {"path": "b", "status": "interrupted"}]
