"""Readers in other processes while an app writes: right to the last flush, and never an error."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import duckdb
import pytest

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
number = 0
deadline = time.monotonic() + float(sys.argv[2])
while time.monotonic() < deadline:
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
    print(number, flush=True)
    time.sleep(0.004)
ingester.stop(30)
"""
CHECK = """
    SELECT
        (SELECT count(*) FROM engagements WHERE status = 'completed'),
        (SELECT count(*) FROM steps),
        (SELECT coalesce(sum(total_tokens), 0) FROM llm_calls),
        (SELECT coalesce(sum(total_tokens), 0) FROM turns WHERE outcome = 'completed'),
        (SELECT count(*) FROM turns)
"""


def test_queries_of_other_processes_never_fail_and_lag_only_by_a_flush(tmp_path: Path):
    ledger = tmp_path / "traces.duckdb"
    seen = 0
    told: list[int] = []
    command = [sys.executable, "-c", WRITER, str(ledger), "6"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        while writer.poll() is None:
            if not ledger.exists():
                time.sleep(0.05)
                continue
            # As a stranger's tool opens it, with nothing of ours at work.
            with duckdb.connect() as connection:
                there = identity_of(ledger)
                try:
                    connection.execute(f"ATTACH '{ledger}' AS l (READ_ONLY)")
                    connection.execute("USE l")
                    [(completed, steps, call_tokens, turn_tokens, turns)] = connection.execute(
                        CHECK
                    ).fetchall()
                except duckdb.Error:
                    # DuckDB 2.0 opens a file twice, and mixes two if one took the other's place.
                    if duckdb.__version__.startswith("1.") or identity_of(ledger) == there:
                        raise
                    continue
            assert turn_tokens == 14 * completed
            assert completed <= turns
            assert turn_tokens <= call_tokens <= 14 * turns
            assert steps <= 2 * turns
            assert completed >= seen
            seen = completed
            told.append(completed)
        written = [int(line) for line in writer.stdout]
    assert writer.returncode == 0
    assert len(set(told)) >= 2, "the file was published while the app wrote"
    with connect(ledger) as opened:
        [row] = list(opened.sql("SELECT count(*) AS n FROM engagements WHERE status='completed'"))
    assert row["n"] == len(written)


def test_what_has_ended_shows_at_once_to_whoever_connects(tmp_path: Path):
    """A command ingests what the app has sealed; the app itself never ingests here."""
    ledger = tmp_path / "traces.duckdb"
    program = WRITER.replace("ingester.start()", "").replace("ingester.stop(30)", "")
    command = [sys.executable, "-c", program, str(ledger), "4"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        ended = 0
        while writer.poll() is None and ended < 300:
            ended = int(writer.stdout.readline() or ended)
            if ended % 100 == 0:
                time.sleep(
                    0.3
                )  # the segment is sealed by the next record after a tenth of a second
                answer = subprocess.check_output(
                    [
                        *(Path(sys.executable).with_name("spanflow"), "sql", "--json"),
                        *("SELECT count(*) AS n FROM engagements WHERE status = 'completed'",),
                        *("--ledger", ledger),
                    ]
                )
                [row] = json.loads(answer)
                assert row["n"] >= ended
        writer.kill()


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
