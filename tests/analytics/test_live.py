"""Funnels asked while an app writes, and against the very spans that it exported."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asked
import pytest
from analytics.walks import told, walking

if TYPE_CHECKING:
    from conftest import Flow

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
    same = {"source": "capture", "trace_id": f"{number:032x}", "engagement_id": f"e{number}",
            "turn_id": f"{number:016x}", "started_ns": began, "phase": "end"}
    for step in ("a", "b")[: 1 + number % 2]:
        span = f"{number * 10 + ord(step):016x}"
        journal.append({**same, "kind": "step", "span_id": span, "name": step, "path": step,
                        "status": "completed", "ended_ns": time.time_ns()})
    journal.append({**same, "kind": "turn", "span_id": f"{number:016x}", "turn_kind": "new",
                    "status": "completed", "ended_ns": time.time_ns()})
    time.sleep(0.02)
ingester.stop(120)
print(number)
"""
READER = """
import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from asked import connected
with connected(Path(sys.argv[1])) as connection:
    rows = connection.execute(
        "SELECT step, reached, advanced, active, interrupted FROM funnel(['a', 'b'])"
    ).fetchall()
print(json.dumps(rows))
"""


def read(ledger: Path) -> Any:
    done = subprocess.run(
        [sys.executable, "-I", "-c", READER, str(ledger), str(Path(asked.__file__).parent)],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


@pytest.mark.timeout(600)
def test_other_processes_ask_while_an_app_writes(tmp_path: Path) -> None:
    ledger, stop = tmp_path / "traces.duckdb", tmp_path / "stop"
    seen: list[int] = []
    command = [sys.executable, "-c", WRITER, str(ledger), str(stop)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        try:
            # Until a reader saw three different states of it.
            while writer.poll() is None and len(set(seen)) < 3:
                if ledger.exists():
                    [(_, a, *of_a), (_, b, *of_b)] = read(ledger)
                    assert (a, b) == (sum(of_a), sum(of_b))
                    assert b <= a
                    seen.append(a)
        finally:
            stop.touch()
        assert writer.stdout is not None
        written = int(writer.stdout.read())
    assert seen == sorted(seen)
    assert [row[1] for row in read(ledger)] == [written, (written + 1) // 2]


def test_the_ledger_and_the_exported_spans_tell_the_same_tokens(flow: Flow) -> None:
    graph = walking("a", "b", tokens=(7, 4))
    for number in range(3):
        graph.invoke({"route": ["a", "b", "a"][: number + 1], "log": []})
    on_spans: dict[str, int] = defaultdict(int)
    for span in flow.spans:
        found = span.attributes or {}
        if found.get("gen_ai.operation.name") == "chat":
            on_spans[str(found["spanflow.engagement.id"])] += int(
                str(found["gen_ai.usage.input_tokens"])
            ) + int(str(found["gen_ai.usage.output_tokens"]))
    assert sorted(on_spans.values()) == [11, 22, 33]
    assert {
        row["engagement_id"]: row["total_tokens"] for row in told(flow, "journeys()")
    } == on_spans
    on_steps = told(flow, "funnel(['a', 'b'])", "total_tokens")
    assert sum(row["total_tokens"] for row in on_steps) == 66
    assert sum(row["total_tokens"] for row in told(flow, "usage_by('model')")) == 66
