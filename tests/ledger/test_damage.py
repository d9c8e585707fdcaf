"""A damaged file is set aside and the ledger goes on; one that is only out of reach is left."""

from __future__ import annotations

import os
import struct
import subprocess
import sys

import duckdb
import pytest

from spanflow import guard
from spanflow.errors import LedgerError
from spanflow.ledger import store
from spanflow.ledger.damage import State, examine, set_aside, write_ahead_log
from spanflow.ledger.ingest import ingest
from spanflow.ledger.places import Places
from spanflow.ledger.publish import publish, refresh


@pytest.fixture
def grown(ledger, make) -> Places:
    """A published ledger of 3,000 turns, and one more turn in the journal."""
    make.write(
        ledger, [make.turn(n, engagement_id=f"e{n}", name=f"x{n}" * 40) for n in range(1, 3001)]
    )
    refresh(ledger)
    make.write(ledger, [make.turn(5000, engagement_id="late")])
    return Places.of(ledger)


def turns(make, ledger) -> int:
    return make.ask(ledger, "SELECT count(*) AS n FROM turns")[0]["n"]


def truncate(file, part: float) -> None:
    os.truncate(file, int(file.stat().st_size * part))


def flip(file, at: int) -> None:
    with file.open("r+b") as opened:
        opened.seek(at)
        byte = opened.read(1)
        opened.seek(at)
        opened.write(bytes([byte[0] ^ 0xFF]))


def hold(file, *, read_only: bool = False) -> subprocess.Popen[str]:
    """Open a database in another process until its input ends."""
    program = (
        "import duckdb, sys\n"
        f"held = duckdb.connect({str(file)!r}, read_only={read_only})\n"
        "print('held', flush=True)\n"
        "sys.stdin.read()\n"
        "held.close()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    process.stdout.readline()
    return process


DAMAGE = {
    "text": lambda file: file.write_bytes(b"x" * 100_000),
    "emptied": lambda file: file.write_bytes(b""),
    "cut early": lambda file: truncate(file, 0.01),
    "cut late": lambda file: truncate(file, 0.6),
    "header": lambda file: flip(file, 4200),
    "version": lambda file: flip(file, 19),
    "everywhere": lambda file: [flip(file, at) for at in range(12_400, file.stat().st_size, 9_999)],
}


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_store_is_set_aside_and_the_published_history_goes_on(
    grown, ledger, make, how, caplog
):
    DAMAGE[how](grown.store)
    bytes_then = grown.store.read_bytes()
    assert turns(make, ledger) == 3001
    [aside] = grown.directory.glob("store.corrupt-*.duckdb")
    assert aside.read_bytes() == bytes_then
    [line] = caplog.messages
    assert str(aside) in line
    make.write(ledger, [make.turn(6000)])
    assert turns(make, ledger) == 3002


def test_damage_that_is_met_only_while_working_is_told_and_the_next_round_goes_on(
    grown, ledger, make
):
    with duckdb.connect(str(grown.store), read_only=True) as connection:
        [(block,)] = connection.execute(
            "SELECT max(block_id) FROM pragma_storage_info('turn_facts') "
            "WHERE column_name = 'name' AND block_id >= 0"
        ).fetchall()
    flip(grown.store, 12_288 + block * 262_144 + 100)
    assert examine(grown.store).state is State.OURS, "it opens"
    assert examine(grown.store, thoroughly=True).state is State.DAMAGED
    with (
        pytest.raises(LedgerError, match=r"was damaged .* moved to .*store\.corrupt-"),
        store.open_store(grown) as connection,
    ):
        connection.execute("SELECT max(name) FROM turn_facts").fetchall()
    assert not grown.store.exists()
    assert turns(make, ledger) == 3001


def test_with_a_damaged_store_and_a_damaged_copy_the_journal_is_what_is_left(grown, ledger, make):
    truncate(grown.store, 0.5)
    truncate(ledger, 0.5)
    assert turns(make, ledger) == 1
    assert len(list(grown.directory.glob("*.corrupt-*.duckdb"))) == 2
    assert guard.counts() == {"ledger.published_damaged": 1, "ledger.store_damaged": 1}


@pytest.mark.parametrize("how", ["text", "cut early", "cut late", "everywhere", "emptied"])
def test_a_damaged_published_file_is_written_anew(grown, ledger, make, how):
    refresh(ledger)
    DAMAGE[how](ledger)
    assert turns(make, ledger) == 3001
    assert len(list(grown.directory.glob("traces.corrupt-*.duckdb"))) == (how != "emptied")
    assert not list(grown.directory.glob("store.corrupt-*"))


def test_a_store_held_open_by_another_program_is_neither_moved_nor_lost(grown, ledger, make):
    holder = hold(grown.store)
    with pytest.raises(LedgerError, match=r"cannot be opened.*lock.*the records wait"):
        ingest(ledger)
    refresh(ledger)
    assert guard.counts() == {"ledger.refresh": 1}, "a reader gets the file as it is"
    holder.communicate("")
    assert turns(make, ledger) == 3001
    assert not list(grown.directory.glob("*.corrupt-*"))


def test_a_reader_of_the_store_is_in_the_way_and_costs_nothing(grown, ledger, make):
    holder = hold(grown.store, read_only=True)
    with pytest.raises(LedgerError, match="cannot be opened"):
        ingest(ledger)
    holder.communicate("")
    assert turns(make, ledger) == 3001
    assert not list(grown.directory.glob("*.corrupt-*"))


def test_somebody_elses_database_in_the_store_s_place_is_not_touched(ledger, make):
    places = Places.of(ledger)
    make.write(ledger, [make.turn(1)])
    with duckdb.connect(str(places.store)) as connection:
        connection.execute("CREATE TABLE meta AS SELECT 'mine' AS format")
    before = places.store.read_bytes()
    with pytest.raises(LedgerError, match="somebody else's database"):
        ingest(ledger)
    assert places.store.read_bytes() == before
    places.store.unlink()
    assert turns(make, ledger) == 1


def test_a_folder_in_the_store_s_place_is_told(grown, ledger, make):
    away = grown.store.rename(grown.directory / "away")
    grown.store.mkdir()
    with pytest.raises(LedgerError, match="cannot be opened"):
        ingest(ledger)
    assert grown.store.is_dir()
    grown.store.rmdir()
    away.rename(grown.store)
    assert turns(make, ledger) == 3001


def test_a_file_of_a_newer_duckdb_is_not_called_damaged(grown):
    with grown.store.open("r+b") as opened:
        opened.seek(12)
        opened.write(struct.pack("<Q", 75))
    assert examine(grown.store).state is State.NEWER


def test_a_full_disk_is_no_damage(grown, ledger, make, monkeypatch):
    def full(*_):
        message = "database has been invalidated: no space left on device"
        raise duckdb.FatalException(message)

    with monkeypatch.context() as patched:
        patched.setattr("spanflow.ledger.gather._note_dead", full)
        with pytest.raises(duckdb.FatalException):
            ingest(ledger)
        looked = []
        patched.setattr("spanflow.ledger.store.examine", lambda *_, **__: looked.append(1))
        with pytest.raises(duckdb.FatalException):
            ingest(ledger)
        assert looked == [], "a store that was found sound is not read again every few seconds"
    assert turns(make, ledger) == 3001
    assert not list(grown.directory.glob("*.corrupt-*"))


def test_what_was_written_beside_a_damaged_file_goes_with_it_and_names_never_collide(tmp_path):
    asides = []
    for content in (b"1", b"2", b"3"):
        file = tmp_path / "store.duckdb"
        file.write_bytes(content)
        write_ahead_log(file).write_bytes(content * 2)
        asides.append(set_aside(file, tmp_path))
    assert [aside.read_bytes() for aside in asides] == [b"1", b"2", b"3"]
    assert [write_ahead_log(aside).read_bytes() for aside in asides] == [b"11", b"22", b"33"]
    assert len(list(tmp_path.iterdir())) == 6


def test_a_log_that_nobody_writes_any_more_does_not_show_in_the_published_file(grown, ledger, make):
    """A program that still has an older file open writes its log beside the new one."""
    program = (
        "import duckdb, sys\n"
        f"held = duckdb.connect({str(ledger)!r})\n"
        "print('held', flush=True)\n"
        "sys.stdin.readline()\n"
        "held.execute('CREATE TABLE theirs AS SELECT 1 AS one')\n"
        "print('wrote', flush=True)\n"
        "sys.stdin.read()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin
    assert process.stdout
    process.stdout.readline()
    assert publish(ledger, force=True) is False
    refresh(ledger)
    process.stdin.write("\n")
    process.stdin.flush()
    process.stdout.readline()
    assert write_ahead_log(ledger).exists()
    refresh(ledger)
    assert not write_ahead_log(ledger).exists()
    assert turns(make, ledger) == 3001
    process.communicate()
    assert turns(make, ledger) == 3001
