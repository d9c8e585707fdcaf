"""The file that people open: always whole, never in their way, never somebody else's."""

from __future__ import annotations

import shutil
import stat
import time
from datetime import timedelta

import duckdb
import pytest

from spanflow import guard
from spanflow.errors import LedgerError
from spanflow.ledger.election import elected
from spanflow.ledger.ingest import ingest
from spanflow.ledger.journal import Journal
from spanflow.ledger.places import Places
from spanflow.ledger.publish import publish, refresh


def turns(path) -> int:
    with duckdb.connect(str(path), read_only=True) as connection:
        return connection.execute("SELECT count(*) FROM turns").fetchall()[0][0]


def test_only_changed_rows_are_published(ledger, make):
    make.write(ledger, [make.turn(1)])
    assert publish(ledger) is False, "there is no store yet"
    [segment] = ledger.parent.glob("*.d/journal/*.ndjson")
    told = segment.read_bytes()
    ingest(ledger)
    assert publish(ledger) is True
    before = ledger.stat().st_mtime_ns
    assert publish(ledger, force=True) is False
    segment.with_name(f"0{segment.name}").write_bytes(told)
    assert ingest(ledger).changed is False, "a record told twice changes nothing"
    assert publish(ledger, force=True) is False
    assert ledger.stat().st_mtime_ns == before


def test_publishing_is_sparing_unless_forced(ledger, make, monkeypatch):
    monkeypatch.setattr("spanflow.ledger.publish.SHORTEST_INTERVAL_S", 3_600.0)
    make.write(ledger, [make.turn(1)])
    ingest(ledger)
    assert publish(ledger)
    make.write(ledger, [make.turn(2)])
    ingest(ledger)
    assert publish(ledger) is False
    assert turns(ledger) == 1
    assert publish(ledger, force=True) is True
    assert turns(ledger) == 2


def test_a_reader_keeps_its_file_and_locks_nobody(ledger, make):
    make.write(ledger, [make.turn(1)])
    refresh(ledger)
    reader = duckdb.connect(str(ledger), read_only=True)
    for number in range(2, 5):
        make.write(ledger, [make.turn(number)])
        refresh(ledger)
    assert reader.execute("SELECT count(*) FROM turns").fetchall() == [(1,)]
    reader.close()
    assert turns(ledger) == 4


def test_a_stale_write_ahead_log_is_removed(ledger, make):
    make.write(ledger, [make.turn(1)])
    refresh(ledger)
    wal = ledger.with_name(ledger.name + ".wal")
    wal.write_bytes(b"left by somebody")
    make.write(ledger, [make.turn(2)])
    refresh(ledger)
    assert not wal.exists()
    assert turns(ledger) == 2


def test_a_removed_file_is_published_again(ledger, make):
    make.write(ledger, [make.turn(1)])
    refresh(ledger)
    ledger.unlink()
    refresh(ledger)
    assert turns(ledger) == 1


def test_who_opened_the_file_to_others_meant_it(ledger, make):
    make.write(ledger, [make.turn(1)])
    refresh(ledger)
    assert stat.S_IMODE(ledger.stat().st_mode) == 0o600
    ledger.chmod(0o644)
    make.write(ledger, [make.turn(2)])
    refresh(ledger)
    assert stat.S_IMODE(ledger.stat().st_mode) == 0o644


def test_a_file_that_came_alone_is_read_as_it_is_and_goes_on_with_its_history(
    ledger, make, tmp_path
):
    make.write(ledger, [make.turn(1)])
    refresh(ledger)
    moved = tmp_path / "elsewhere" / "copy.duckdb"
    moved.parent.mkdir()
    shutil.copy(ledger, moved)
    refresh(moved)
    assert list(moved.parent.iterdir()) == [moved]
    assert turns(moved) == 1
    make.write(moved, [make.turn(2)])
    refresh(moved)
    assert turns(moved) == 2


@pytest.mark.parametrize("content", ["database", "text"])
def test_somebody_elses_file_is_never_replaced(ledger, make, content):
    if content == "database":
        with duckdb.connect(str(ledger)) as connection:
            connection.execute("CREATE TABLE meta AS SELECT 'mine' AS format")
    else:
        ledger.write_text("not a database")
    before = ledger.read_bytes()
    make.write(ledger, [make.turn(1)])
    with pytest.raises(LedgerError, match="no spanflow ledger"):
        refresh(ledger)
    assert publish(ledger, force=True) is False
    assert ledger.read_bytes() == before
    assert list(ledger.parent.glob("*.d/journal/*.ndjson")), "the records wait"
    ledger.unlink()
    refresh(ledger)
    assert turns(ledger) == 1


def test_an_empty_file_is_no_obstacle(ledger, make):
    ledger.touch()
    make.write(ledger, [make.turn(1)])
    refresh(ledger)
    assert turns(ledger) == 1


def test_where_nothing_may_be_written_the_file_is_read_as_it_is(ledger, make):
    make.write(ledger, [make.turn(1)])
    refresh(ledger)
    make.write(ledger, [make.turn(2)])
    lock = ledger.with_name(ledger.name + ".d") / "ingest.lock"
    lock.unlink()
    lock.mkdir()
    refresh(ledger)
    assert turns(ledger) == 1
    assert guard.counts() == {"ledger.refresh": 1}
    lock.rmdir()
    refresh(ledger)
    assert turns(ledger) == 2


def test_another_ingester_at_work_is_not_waited_for(ledger, make):
    import fcntl

    make.write(ledger, [make.turn(1)])
    ingest(ledger)
    make.write(ledger, [make.turn(2)])
    with (ledger.with_name(ledger.name + ".d") / "ingest.lock").open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        began = time.monotonic()
        assert ingest(ledger) is None
        assert publish(ledger, force=True) is False
        assert time.monotonic() - began < 5, "as long as a refresh waits for it"
    assert ingest(ledger).segments == 1


def test_a_commit_without_its_deletion_is_not_taken_twice(ledger, make):
    journal = Journal(ledger)
    journal.append(make.turn(1))
    journal.append({"not": "a span"})
    journal.seal()
    [segment] = journal.directory.glob("*.ndjson")
    kept = segment.read_bytes()
    assert ingest(ledger).segments == 1
    segment.write_bytes(kept)
    report = ingest(ledger)
    assert (report.segments, report.changed) == (0, False)
    assert not segment.exists()
    assert make.ask(ledger, "SELECT count FROM diagnostics WHERE name = 'refused_records'") == [
        {"count": 1}
    ]
    journal.close()


def test_the_patience_of_the_views_is_in_the_file(ledger, make):
    make.write(ledger, [make.turn(1, status="paused")])
    as_of = "SELECT status FROM engagements(as_of := TIMESTAMP '2026-09-21 14:53:20')"
    assert make.ask(ledger, as_of) == [{"status": "abandoned"}]
    make.write(ledger, [make.turn(2, status="paused")])
    refresh(ledger, idle_after=timedelta(hours=2))
    assert make.ask(ledger, as_of) == [{"status": "paused"}]


def test_what_an_ingester_kept_from_being_brought_in_is_told(ledger, make):
    make.write(ledger, [make.turn(1)])
    assert refresh(ledger) is True
    make.write(ledger, [make.turn(2)])
    with elected(Places.of(ledger)) as won:
        assert won
        assert refresh(ledger, wait_s=0) is False
    assert turns(ledger) == 1
    assert refresh(ledger) is True
    assert turns(ledger) == 2
    assert refresh(ledger) is True, "nothing is left to bring in"
