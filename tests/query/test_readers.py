"""Readers in other processes while an app writes: right to the last flush, and never an error."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from asked import connected

from spanflow.ledger.journal import Journal
from spanflow.ledger.publish import refresh
from spanflow.ledger.published import identity_of
from spanflow.query import opening
from spanflow.query.journeys import connect

# An app of four engagements at a time, each of two steps; it tells what has ended, right after it.
WRITER = """
import sys, time
from pathlib import Path
from spanflow.ledger.ingest import BackgroundIngester
from spanflow.ledger.journal import Journal
ledger = Path(sys.argv[1])
journal = Journal(ledger, segment_seconds=0.1)
ingester = BackgroundIngester(ledger, journal, interval_s=0.2)
ingester.start()
number, stop = 0, Path(sys.argv[2])
while not stop.exists():
    number += 1
    began = time.time_ns()
    turn = {"source": "capture", "trace_id": f"{number:032x}", "engagement_id": f"e{number}",
            "turn_id": f"{number:016x}", "started_ns": began}
    def tell(kind, phase, span, **more):
        ended = {"ended_ns": time.time_ns()} if phase == "end" else {}
        said = {"kind": kind, "phase": phase, "span_id": f"{span:016x}"}
        journal.append({**turn, **said, **ended, **more})
    tell("turn", "start", number, turn_kind="new")
    for step in (1, 2):
        at = number * 1_000_000 + step
        tell("step", "end", at, name=f"s{step}", status="completed")
        tell("llm", "end", number * 1_000_000_000 + step, step_id=f"{at:016x}", model="m",
             input_tokens=3, output_tokens=4, status="ok")
    tell("turn", "end", number, status="completed", turn_kind="new")
    print(number, time.monotonic(), flush=True)
    time.sleep(0.02)
ingester.stop(120)
"""
CHECK = """
    SELECT
        (SELECT count(*) FROM engagements WHERE status = 'completed'),
        (SELECT count(*) FROM steps),
        (SELECT coalesce(sum(total_tokens), 0) FROM llm_calls),
        (SELECT coalesce(sum(total_tokens), 0) FROM turns WHERE outcome = 'completed'),
        (SELECT count(*) FROM turns)
"""


def states(ledger: Path, writer: subprocess.Popen[bytes]) -> set[int]:
    """Read over and over; return how many were completed in each of three published files."""
    seen, told = 0, set[int]()
    # Until it was published a third time while the app wrote.
    while writer.poll() is None and len(told) < 3:
        if not ledger.exists():
            time.sleep(0.05)
            continue
        # As a stranger's tool opens it, with nothing of ours at work.
        with connected(ledger) as connection:
            [(completed, steps, call_tokens, turn_tokens, turns)] = connection.execute(
                CHECK
            ).fetchall()
        assert turn_tokens == 14 * completed
        assert completed <= turns
        assert turn_tokens <= call_tokens <= 14 * turns
        assert steps <= 2 * turns
        assert completed >= seen
        seen = completed
        told.add(completed)
    return told


@pytest.mark.timeout(600)
def test_queries_of_other_processes_never_fail_and_lag_only_by_a_flush(tmp_path: Path):
    ledger = tmp_path / "traces.duckdb"
    stop = tmp_path / "stop"
    command = [sys.executable, "-c", WRITER, str(ledger), str(stop)]
    printed = tmp_path / "printed"
    with printed.open("w") as lines, subprocess.Popen(command, stdout=lines) as writer:
        try:
            told = states(ledger, writer)
        finally:
            stop.touch()
    written = printed.read_text().splitlines()
    assert writer.returncode == 0
    assert len(told) == 3
    with connect(ledger) as opened:
        [row] = list(opened.sql("SELECT count(*) AS n FROM engagements WHERE status='completed'"))
    assert row["n"] == len(written)


def told_at(writer: subprocess.Popen[str], number: int = 0) -> float:
    """Read on until an engagement of at least this number, and return when it was told."""
    for line in writer.stdout:
        found, at = line.split()
        if int(found) >= number:
            return float(at)
    pytest.fail("the app ended")


def test_what_has_ended_shows_at_once_to_whoever_connects(tmp_path: Path):
    """A command ingests what the app has sealed; the app itself never ingests here."""
    ledger = tmp_path / "traces.duckdb"
    program = WRITER.replace("ingester.start()", "").replace("ingester.stop(120)", "")
    command = [sys.executable, "-c", program, str(ledger), str(tmp_path / "stop")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        try:
            for ended in (30, 60, 90):
                at = told_at(writer, ended)
                # The segment is sealed by the next record after a tenth of a second.
                while told_at(writer) < at + 0.2:
                    pass
                assert completed(ledger) >= ended
        finally:
            writer.kill()


def completed(ledger: Path) -> int:
    asked = "SELECT count(*) AS n FROM engagements WHERE status = 'completed'"
    program = Path(sys.executable).with_name("spanflow")
    answer = subprocess.check_output([program, "sql", "--json", asked, "--ledger", ledger])
    [row] = json.loads(answer)
    return row["n"]


@pytest.mark.parametrize("replaced", [1, 2])
def test_a_file_that_is_replaced_as_it_is_opened_is_opened_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, replaced: int
):
    """DuckDB 2.0 opens it twice, and would read the header of one file and the rest of another."""
    ledger = tmp_path / "traces.duckdb"
    journal = Journal(ledger)
    journal.append(
        {"source": "capture", "kind": "turn", "phase": "start", "trace_id": f"{1:032x}",
         "span_id": f"{1:016x}", "turn_id": f"{1:016x}", "engagement_id": "e1", "started_ns": 1}
    )  # fmt: skip
    journal.seal()
    refresh(ledger)
    told = iter([[n] for n in range(2 * replaced)])
    asked: list[list[int]] = []

    def changing(file: Path) -> list[int]:
        asked.append(next(told, identity_of(file)))
        return asked[-1]

    monkeypatch.setattr(opening, "identity_of", changing)
    with closing(opening.Opened(ledger)) as opened:
        [(count,)] = opened.connection.execute("SELECT count(*) FROM engagements").fetchall()
    assert count == 1
    assert len(asked) == 2 * replaced + 2
