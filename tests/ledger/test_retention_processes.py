"""Erasing while processes write, hold on to segments, and are killed."""

from __future__ import annotations

import secrets
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from spanflow.ledger.publish import refresh
from spanflow.ledger.retention import forget

PRELUDE = f"""
import sys, time
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
import conftest as make
from spanflow.ledger.journal import Journal
from spanflow.ledger.ingest import BackgroundIngester
from spanflow.ledger.retention import forget
ledger = Path(sys.argv[1])
"""


def start(ledger: Path, body: str, *arguments: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", PRELUDE + textwrap.dedent(body), str(ledger), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    return process


def finish(process: subprocess.Popen[str]) -> None:
    process.communicate("\n", timeout=240)
    assert process.returncode == 0


def turns(make, engagement: str, many: range, **fields):
    return [make.turn(one, engagement_id=engagement, trace=one, at=one, **fields) for one in many]


def holders(ledger: Path, mark: str) -> set[str]:
    files = [path for path in ledger.parent.rglob("*") if path.is_file()]
    return {path.name for path in files if mark.encode() in path.read_bytes()}


def test_a_kill_at_any_moment_leaves_all_or_nothing(ledger, make):
    mark = secrets.token_hex(40)
    make.write(ledger, turns(make, "gone", range(1, 3_001), user_id="u", name=mark))
    make.write(ledger, turns(make, "kept", range(5_001, 8_001), user_id="v"))
    refresh(ledger)
    counts: set[int] = set()
    for delay_s in (0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6):
        process = start(ledger, 'print("ready", flush=True); forget(ledger, user_id="u", wait_s=0)')
        time.sleep(delay_s)
        process.kill()
        process.communicate()
        rows = make.ask(ledger, "SELECT engagement_id AS id, turns FROM engagements")
        found = {row["id"]: row["turns"] for row in rows}
        assert found.pop("kept") == 3_000
        counts.add(found.pop("gone", 0))
        assert found == {}
    assert counts <= {0, 3_000}
    forget(ledger, user_id="u", wait_s=0)
    assert holders(ledger, mark) == set()
    assert make.ask(ledger, "SELECT turns FROM engagements") == [{"turns": 3_000}]


def test_what_a_living_process_still_writes_is_told_of_and_dropped_later(ledger, make):
    mark = secrets.token_hex(40)
    process = start(
        ledger,
        """
        journal = Journal(ledger, segment_seconds=600)
        journal.append(make.turn(phase="start", user_id="u"))
        journal.seal()
        journal.append(make.step(2, sys.argv[2]))
        print("ready", flush=True)
        sys.stdin.readline()
        journal.append(make.turn(user_id="u", name=sys.argv[2]))
        """,
        mark,
    )
    erased = forget(ledger, user_id="u", wait_s=0.5)
    assert (erased.engagements, erased.open_segments) == (("e1",), 1)
    assert make.ask(ledger, "FROM turns") == []
    finish(process)
    assert make.ask(ledger, "FROM spans") == []
    assert holders(ledger, mark) == set()


def test_what_a_process_seals_while_erasing_waits_is_taken_in(ledger, make):
    """Only the segment that is being written tells of this engagement."""
    process = start(
        ledger,
        """
        journal = Journal(ledger)
        ingester = BackgroundIngester(ledger, journal, interval_s=1.0)
        ingester.start()
        journal.append(make.turn(user_id="u"))
        print("ready", flush=True)
        sys.stdin.readline()
        """,
    )
    erased = forget(ledger, user_id="u", wait_s=120)
    assert (erased.engagements, erased.open_segments) == (("e1",), 0)
    finish(process)


@pytest.mark.timeout(600)
def test_nothing_of_others_is_lost_while_processes_write(ledger, make):
    writers = [
        start(
            ledger,
            """
            first = int(sys.argv[2])
            journal = Journal(ledger, segment_seconds=0.05)
            ingester = BackgroundIngester(ledger, journal, interval_s=0.2)
            ingester.start()
            print("ready", flush=True)
            for one in range(first, first + 300):
                who = "u" if one % 3 == 0 else "v"
                journal.append(make.turn(one, trace=one, engagement_id=f"e{one}", user_id=who))
                time.sleep(0.01)
            sys.stdin.readline()
            ingester.stop(120)
            """,
            str(first),
        )
        for first in (1_000, 2_000)
    ]
    for _ in range(5):
        forget(ledger, user_id="u", wait_s=0)
        time.sleep(0.5)
    for process in writers:
        finish(process)
    forget(ledger, user_id="u")
    rows = make.ask(ledger, "SELECT user_id, count(*) AS many FROM engagements GROUP BY ALL")
    assert rows == [{"user_id": "v", "many": 400}]
