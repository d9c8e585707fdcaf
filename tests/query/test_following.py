"""Following a ledger: each change once, whatever happens to the file meanwhile."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pytest

from spanflow.errors import LedgerError
from spanflow.ledger.journal import Journal
from spanflow.ledger.places import Places
from spanflow.ledger.publish import publish, refresh
from spanflow.query import following
from spanflow.query.following import Follower
from spanflow.query.journeys import connect
from spanflow.query.opening import Opened

if TYPE_CHECKING:
    from collections.abc import Iterator

    from spanflow.model import Change

T0 = 1_790_000_000_000_000_000


def record(kind: str, span: int, phase: str = "end", **fields: Any) -> dict[str, Any]:
    made: dict[str, Any] = {
        "source": "capture",
        "phase": phase,
        "kind": kind,
        "trace_id": f"{fields.pop('turn', 1):032x}",
        "span_id": f"{span:016x}",
        "engagement_id": "e1",
        "turn_id": f"{1:016x}",
        "started_ns": T0 + span * 1_000_000,
        "name": f"{kind}-{span}",
    }
    if phase == "end":
        made |= {"ended_ns": T0 + span * 1_000_000 + 500_000, "status": "completed"}
    return made | fields


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    made = Journal(tmp_path / "traces.duckdb")
    yield made
    made.close()


def write(journal: Journal, *records: dict[str, Any]) -> None:
    for one in records:
        assert journal.append(one)
    refresh(journal.path)


def news(follower: Follower) -> list[tuple[str, str, str | None]]:
    """What one look tells."""
    return [(one.name or "", one.phase, one.status) for one in follower.look()]


def started(journal: Journal) -> Follower:
    follower = Follower(journal.path)
    with closing(Opened(journal.path)) as opened:
        follower.start_after(opened.connection)
    return follower


def test_what_was_there_is_not_told_and_what_comes_is_told_once(journal: Journal):
    write(journal, record("turn", 1, "start"))
    follower = started(journal)
    assert news(follower) == []
    write(journal, record("step", 2, "start", status="running"))
    assert news(follower) == [("step-2", "started", "running")]
    assert news(follower) == []
    write(journal, record("step", 2), record("step", 3), record("turn", 1))
    assert news(follower) == [
        ("turn-1", "ended", "completed"),
        ("step-2", "ended", "completed"),
        ("step-3", "ended", "completed"),
    ]
    # A second feed adds to a row, and the row is written again.
    write(journal, record("step", 3, source="exporter", agent_name="a"))
    assert news(follower) == []


def test_a_change_says_what_happened(journal: Journal):
    spent = {"input_tokens": 3, "output_tokens": 4, "total_tokens": 7, "model": "m"}
    call = record("llm", 3, step_id=f"{2:016x}", **spent, name=None)
    write(journal, record("turn", 1), record("step", 2, path="a/b"), call)
    with connect(journal.path) as opened:
        turn, step, llm = opened.latest_changes(5)
        assert opened.latest_changes(1) == [llm]
        assert opened.latest_changes(5, engagement_id="other") == []
        told = list(itertools.islice(opened.follow(interval_s=0.01, from_start=True), 3))
    assert told == [turn, step, llm]
    assert (llm.kind, llm.name, llm.usage.total_tokens, llm.duration_ms) == (
        "llm_call",
        "m",
        7,
        0.5,
    )
    assert (step.path, step.step_id, step.usage.total_tokens) == ("a/b", f"{2:016x}", 7)
    assert (turn.turn_id, turn.usage.input_tokens, turn.engagement_id) == (f"{1:016x}", 3, "e1")
    assert turn.at is not None
    assert turn.at.tzinfo is None


def test_one_engagement_alone(journal: Journal):
    follower = Follower(journal.path, "e2")
    write(journal, record("step", 2), record("step", 3, engagement_id="e2"))
    assert [name for name, _, _ in news(follower)] == ["step-3"]


def test_a_process_that_dies_interrupts_what_it_had_begun(journal: Journal):
    follower = started_on_empty(journal)
    write(journal, record("turn", 1, "start"), record("step", 2, "start", status="running"))
    assert len(news(follower)) == 2
    journal.close()
    refresh(journal.path)
    assert news(follower) == [
        ("turn-1", "ended", "interrupted"),
        ("step-2", "ended", "interrupted"),
    ]
    assert news(follower) == []


def started_on_empty(journal: Journal) -> Follower:
    write(journal, record("span", 99))
    return started(journal)


def test_a_long_history_is_told_page_by_page(journal: Journal, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(following, "_PAGE_ROWS", 7)
    monkeypatch.setattr(following, "_REMEMBERED", 5)
    write(journal, *(record("step", number) for number in range(1, 100)))
    write(journal, *(record("step", number) for number in range(100, 120)))
    follower = Follower(journal.path)
    told = [name for name, _, _ in news(follower)]
    assert told == [f"step-{number}" for number in range(1, 120)]
    assert len(follower._told) == 5  # noqa: SLF001 - the bound is on what is remembered
    assert news(follower) == []


def test_a_ledger_that_begins_anew_is_followed_on(journal: Journal):
    write(journal, *(record("step", number) for number in range(1, 5)))
    write(journal, record("step", 5))
    follower = started(journal)
    write(journal, record("step", 6))
    assert len(news(follower)) == 1
    places = Places.of(journal.path)
    journal.close()
    places.ledger.unlink()
    shutil.rmtree(places.directory)
    with pytest.raises(LedgerError):
        news(follower)
    later = time.time_ns()
    write(journal, record("step", 7, started_ns=later, ended_ns=later + 5))
    assert [name for name, _, _ in news(follower)] == ["step-7"]


def test_a_lower_revision_tells_nothing_twice(journal: Journal):
    """As after a purge that wrote the rows that are kept into a new store."""
    follower = started_on_empty(journal)
    for number in range(1, 6):
        write(journal, record("step", number, started_ns=time.time_ns()))
    assert len(news(follower)) == 5
    with duckdb.connect(str(Places.of(journal.path).store)) as store:
        store.execute("UPDATE meta SET revision = 1; UPDATE records SET revision = 1")
    publish(journal.path, force=True)
    assert news(follower) == []
    write(journal, record("step", 6, started_ns=time.time_ns()))
    assert [name for name, _, _ in news(follower)] == ["step-6"]


def test_a_file_that_cannot_be_read_is_borne_for_some_time(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    write(journal, record("step", 1))
    alone = tmp_path / "alone" / "traces.duckdb"
    alone.parent.mkdir()
    shutil.copy(journal.path, alone)
    coming = Follower(alone).changes(0.0)
    assert next(coming).name == "step-1"
    good = alone.read_bytes()
    waits = itertools.count()

    def mend(_interval_s: float) -> None:
        looks = next(waits)
        if looks == 0:
            alone.write_bytes(b"no database" * 1_000)
        elif looks == 2:
            alone.unlink()
        elif looks == 4:
            alone.write_bytes(good)
            with duckdb.connect(str(alone)) as ledger:
                ledger.execute("UPDATE records SET span_id = 'other', revision = 9")
                ledger.execute("UPDATE meta SET revision = 9")
        elif looks == 5:
            alone.write_bytes(b"no database" * 2_000)

    monkeypatch.setattr(following.time, "sleep", mend)
    assert next(coming).span_id == "other"
    with pytest.raises(LedgerError, match="cannot be read as a ledger"):
        next(coming)


WRITER = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_following import record
from spanflow.ledger.journal import Journal
from spanflow.ledger.ingest import ingest
from spanflow.ledger.publish import publish
ledger = Path(sys.argv[1])
journal = Journal(ledger)
for number in range(2, 302):
    journal.append(record("step", number))
    if number % 20 == 0:
        journal.seal()
        ingest(ledger)
        publish(ledger, force=True)
journal.close()
"""


def test_each_change_is_told_once_while_the_file_is_replaced(journal: Journal, tmp_path: Path):
    write(journal, record("turn", 1, "start"))
    with connect(journal.path) as opened:
        coming = opened.follow(interval_s=0.01)
    command = [sys.executable, "-c", WRITER, str(journal.path), str(Path(__file__).parent)]
    with subprocess.Popen(command) as writer:
        told: list[Change] = list(itertools.islice(coming, 300))
        assert writer.wait(120) == 0
    assert sorted(one.name or "" for one in told) == sorted(f"step-{n}" for n in range(2, 302))
    assert [one.revision for one in told] == sorted(one.revision for one in told)
    assert json.loads(told[0].model_dump_json())["phase"] == "ended"
