"""The doctor looks at anything, says what to do, and touches nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import duckdb
import pytest

from spanflow.ledger.checkup import check_up
from spanflow.ledger.journal import Journal
from spanflow.ledger.places import Places
from spanflow.ledger.publish import refresh


@pytest.fixture
def places(ledger) -> Places:
    """A ledger that is up to date, with one process writing."""
    refresh(ledger)
    return Places.of(ledger)


def everything(top: Path) -> dict[str, tuple]:
    found = {}
    for path in sorted(top.rglob("*")):
        about = path.lstat()
        held = path.read_bytes() if path.is_file() else b""
        found[str(path)] = (about.st_mode, about.st_mtime_ns, about.st_ino, held)
    return found


def hold(program: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", f"{program}\nprint('held', flush=True)\nsys.stdin.read()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    process.stdout.readline()
    return process


def test_a_ledger_in_good_health(spanflow, places):
    said = spanflow("doctor", "--ledger", places.ledger)
    assert said.code == 0, said.out
    assert "Nothing needs doing" in said.out
    assert f"1 alive ({os.getpid()})" in said.out
    told = json.loads(spanflow("doctor", "--ledger", places.ledger, "--json").out)
    assert told["healthy"] is True
    assert (told["published"], told["store"], told["problems"]) == ("ours", "ours", [])
    assert told["versions"]["duckdb"] == duckdb.__version__
    assert told["versions"]["schema"].endswith(".sql")
    assert told["ingested_at"] is not None
    assert (told["waiting_segments"], told["lost_records"], told["living"]) == (0, 0, [os.getpid()])


def test_no_ledger_at_all(spanflow, tmp_path):
    said = spanflow("doctor", "--ledger", tmp_path / "none.duckdb")
    assert said.code == 1
    assert "There is no ledger at" in said.out
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_came_alone_is_healthy(spanflow, places, tmp_path):
    moved = tmp_path / "moved" / "copy.duckdb"
    moved.parent.mkdir()
    moved.write_bytes(places.ledger.read_bytes())
    assert spanflow("doctor", "--ledger", moved).code == 0
    assert list(moved.parent.iterdir()) == [moved]


def damaged_store(places):
    os.truncate(places.store, 20_000)


def damaged_published(places):
    os.truncate(places.ledger, 20_000)


def foreign_published(places):
    places.ledger.unlink()
    with duckdb.connect(str(places.ledger)) as connection:
        connection.execute("CREATE TABLE theirs AS SELECT 1 AS one")


def folder_published(places):
    places.ledger.unlink()
    places.ledger.mkdir()


def newer_store(places):
    with duckdb.connect(str(places.store)) as connection:
        connection.execute("INSERT INTO migrations VALUES ('9999_future.sql', now()::TIMESTAMP)")


def everything_gone_but_the_folder(places):
    places.ledger.unlink()
    places.store.unlink()
    places.lock.unlink()
    for file in places.journal.iterdir():
        file.unlink()
    places.journal.rmdir()
    places.journal.write_text("")


def bad_segment(places):
    (places.journal / "00-x-1.bad").write_bytes(b"?")


def set_aside(places):
    (places.directory / "store.corrupt-20260101T000000Z.duckdb").write_bytes(b"?")


def old_segment(places):
    segment = places.journal / "00-x-1.ndjson"
    segment.write_bytes(b"{}\n")
    os.utime(segment, (time.time() - 500, time.time() - 500))


def open_door(places):
    places.directory.chmod(0o755)


def losing_process(places):
    [alive] = places.journal.glob("*.alive")
    told = alive.read_bytes()
    alive.write_bytes(told.replace(b"0}", b"7}"))


@pytest.mark.parametrize(
    ("ail", "what", "do"),
    [
        (damaged_store, "store is damaged", "moves it aside"),
        (damaged_published, "cannot be used", "writes it anew"),
        (foreign_published, "cannot be used", "another path"),
        (folder_published, "Is a directory", "another path"),
        (newer_store, "newer spanflow (it has 9999_future.sql)", "Upgrade"),
        (bad_segment, "could not be read", "delete"),
        (set_aside, "moved aside", "delete"),
        (old_segment, "wait since 50", "spanflow ingest"),
        (open_door, "Others may look", "chmod -R go="),
        (losing_process, "could not keep 7 record", "Make room"),
    ],
)
def test_each_ailment_is_told_with_what_to_do_and_nothing_is_touched(
    spanflow, places, ail, what, do
):
    ail(places)
    before = everything(places.ledger.parent)
    told = json.loads(spanflow("doctor", "--ledger", places.ledger, "--json").out)
    said = spanflow("doctor", "--ledger", places.ledger)
    assert said.code == 1
    [problem] = told["problems"]
    assert what in problem["what"]
    assert do in problem["do"]
    assert everything(places.ledger.parent) == before


def test_what_is_left_of_a_ledger_is_looked_at_all_the_same(spanflow, places):
    everything_gone_but_the_folder(places)
    before = everything(places.ledger.parent)
    assert spanflow("doctor", "--ledger", places.ledger).code == 0
    assert everything(places.ledger.parent) == before


def test_who_has_the_store_open_is_named(spanflow, places):
    holder = hold(f"import duckdb, sys; held = duckdb.connect({str(places.store)!r})")
    said = spanflow("doctor", "--ledger", places.ledger)
    holder.communicate("")
    assert said.code == 1
    assert "has the store open" in said.out
    if Path("/proc/locks").exists():
        assert str(holder.pid) in said.out
    assert spanflow("doctor", "--ledger", places.ledger).code == 0


def test_who_is_ingesting_is_named_and_not_disturbed(spanflow, places):
    holder = hold(
        "import sys; from spanflow.ledger.election import elected; "
        "from spanflow.ledger.places import Places; "
        f"won = elected(Places.of({str(places.ledger)!r})); assert won.__enter__()"
    )
    told = json.loads(spanflow("doctor", "--ledger", places.ledger, "--json").out)
    holder.communicate("")
    assert (told["store"], told["ingesting_pid"]) == ("busy", holder.pid)
    assert told["healthy"] is True


def test_losses_of_the_living_and_of_the_dead_are_counted_once(ledger, tmp_path):
    journal = Journal(ledger)
    journal.append({"kind": "span", "trace_id": "1" * 32, "span_id": "2" * 16})
    journal._lose(3)  # noqa: SLF001 - as a full disk would make it
    assert check_up(ledger).lost_records == 3
    refresh(ledger)
    assert check_up(ledger).lost_records == 3
    journal.close()
    refresh(ledger)
    found = check_up(ledger)
    assert found.lost_records == 3
    assert found.problems == [], "nobody who is running loses anything"
