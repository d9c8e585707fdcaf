"""The published file in DuckDB's plain shell, of another version than the one that wrote it."""

from __future__ import annotations

import csv
import io
import subprocess
import sys
from pathlib import Path

import pytest

from spanflow.ledger.publish import refresh

SHELL = Path(sys.executable).with_name("duckdb")
VIEWS = {
    "engagements": 1,
    "engagements(as_of := TIMESTAMP '2020-01-01')": 0,
    "engagements(idle_after := INTERVAL 1 HOUR)": 1,
    "turns": 2,
    "steps": 3,
    "llm_calls": 1,
    "tool_calls": 1,
    "events": 4,
    "waits": 1,
    "waits(as_of := TIMESTAMP '2020-01-01')": 0,
    "status_history('e1', idle_after := INTERVAL 1 HOUR)": 4,
    "critical_path('e1')": 5,
    "transitions": 1,
    "handoffs": 0,
    "graphs": 1,
    "spans": 7,
    "diagnostics": 4,
    "usage_conflicts": 1,
    "visits": 3,
}


def shell(ledger: Path, query: str) -> list[dict[str, str]]:
    done = subprocess.run(
        [SHELL, "-readonly", "-csv", str(ledger), query],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return list(csv.DictReader(io.StringIO(done.stdout)))


@pytest.fixture
def published(ledger: Path, make) -> Path:
    asked = {"kind": "wait", "name": "confirm", "at_ns": make.T0, "payload": {"payload": 1}}
    noted = {"kind": "log", "name": "hello", "at_ns": make.T0, "payload": None}
    make.write(
        ledger,
        [
            {"kind": "graph", "graph_version": "f" * 16, "name": "g", "nodes": [], "edges": []},
            make.turn(1, status="paused", graph_version="f" * 16),
            make.step(2, "a", superstep=1, events=[noted]),
            make.llm(3, 2, (10, 5), at=1, total_tokens=3, usage_flags=["inconsistent_total"]),
            make.tool(4, 2),
            make.step(5, "confirm", at=2, superstep=2, status="waiting", events=[asked]),
            make.turn(6, at=9, turn_kind="resume"),
            make.step(7, "confirm", turn=6, at=9, superstep=3),
        ],
    )
    refresh(ledger)
    return ledger


@pytest.mark.parametrize(("source", "rows"), VIEWS.items(), ids=str)
def test_every_view_works_in_the_plain_shell(published: Path, source: str, rows: int):
    assert len(shell(published, f"FROM {source}")) == rows


def test_the_shell_says_what_python_says(published: Path, make):
    query = (
        "SELECT status, turns, steps, total_tokens, working_ms, waiting_ms, "
        "CAST(started_at AS VARCHAR) AS began FROM engagements"
    )
    [by_shell], [by_python] = shell(published, query), make.ask(published, query)
    assert by_shell == {name: str(value) for name, value in by_python.items()}
