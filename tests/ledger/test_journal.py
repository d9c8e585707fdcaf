"""Records reach the disk whole, in any company, and never disturb the caller."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spanflow import guard
from spanflow.ledger.journal import Journal, journal_for
from spanflow.ledger.process import is_alive


def lines(journal: Journal) -> list[dict]:
    return [
        json.loads(line)
        for segment in sorted(
            [*journal.directory.glob("*.ndjson"), *journal.directory.glob("*.open")]
        )
        for line in segment.read_text("utf-8").splitlines()
    ]


def test_nothing_is_on_disk_before_the_first_record(ledger):
    journal = Journal(ledger)
    journal.seal()
    journal.close()
    assert list(ledger.parent.iterdir()) == []


def test_files_are_private(ledger):
    journal = Journal(ledger)
    assert journal.append({"name": "a"})
    modes = {path.suffix: stat.S_IMODE(path.stat().st_mode) for path in journal.directory.iterdir()}
    assert modes == {".open": 0o600, ".alive": 0o600}
    assert stat.S_IMODE(journal.directory.stat().st_mode) == 0o700
    assert stat.S_IMODE(journal.directory.parent.stat().st_mode) == 0o700
    journal.close()


def test_a_process_lives_until_it_closes(ledger):
    journal = Journal(ledger, service_name="shop")
    journal.append({"name": "a"})
    [alive] = journal.directory.glob("*.alive")
    told = json.loads(alive.read_text())
    assert (told["pid"], told["service_name"], told["process_id"]) == (
        os.getpid(),
        "shop",
        journal.process_id,
    )
    assert is_alive(alive)
    assert is_alive(alive), "asking must not drop the lock"
    journal.close()
    assert not is_alive(alive)


def test_a_segment_is_sealed_by_size_by_age_and_on_demand(ledger):
    journal = Journal(ledger, segment_bytes=100, segment_seconds=1000)
    for _ in range(3):
        journal.append({"name": "x" * 100})
    assert len(list(journal.directory.glob("*.ndjson"))) == 2
    journal.seal()
    assert len(list(journal.directory.glob("*.ndjson"))) == 3
    hasty = Journal(ledger, segment_seconds=0)
    hasty.append({})
    hasty.append({})
    assert len(list(journal.directory.glob("*.ndjson"))) == 4
    journal.close()
    hasty.close()


def test_one_journal_for_all_names_of_a_ledger(ledger, tmp_path):
    link = tmp_path / "link.duckdb"
    link.symlink_to(ledger)
    assert journal_for(ledger) is journal_for(link)


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (float("nan"), None),
        (float("inf"), None),
        (10**30, str(10**30)),
        (-(2**63) - 1, str(-(2**63) - 1)),
        ("\ud800", "\ufffd"),
        ("\ud83c\udf8c", "🎌"),
        ("a\0b", "a\0b"),
        (b"\xff\x00", "\ufffd\0"),
        ({1: 2, None: 3, (4,): {5}}, {"1": 2, "None": 3, "(4,)": [5]}),
        ((1, (2,)), [1, [2]]),
    ],
)
def test_what_json_has_no_word_for_becomes_safe(ledger, value, stored):
    journal = Journal(ledger)
    assert journal.append(
        {"attributes": {"k": value}, "name": "\ud800" if isinstance(value, dict) else "n"}
    )
    [line] = lines(journal)
    assert line["attributes"]["k"] == stored
    journal.close()


class Hostile:
    def __repr__(self):
        raise RuntimeError


class HostileList(list):
    def __iter__(self):
        raise RuntimeError


def test_hostile_and_endless_values_are_written_somehow(ledger):
    endless: dict = {}
    endless["a"] = endless["b"] = [endless, endless]
    deep: list = []
    for _ in range(100_000):
        deep = [deep]
    journal = Journal(ledger)
    for value in (
        Hostile(),
        HostileList([1]),
        endless,
        deep,
        {Hostile(): 1},
        threading.Lock(),
        lambda: 0,
    ):
        assert journal.append({"attributes": value}), value
    assert len(lines(journal)) == journal.written == 7
    journal.close()


def test_a_record_too_large_is_cut_and_keeps_its_identity(ledger):
    journal = Journal(ledger)
    assert journal.append({"span_id": "s", "attributes": {"k": "x" * 20_000_000}})
    assert journal.append({"span_id": "t", "events": [{"name": "y" * 90}] * 200_000})
    first, second = lines(journal)
    assert first["span_id"] == "s"
    assert len(first["attributes"]["k"]) == 65_537
    assert second["span_id"] == "t"
    assert journal.directory.stat()
    journal.close()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text() | st.integers(), inner, max_size=4)
    ),
    max_leaves=20,
)


@settings(deadline=None)
@given(
    st.lists(st.dictionaries(st.text(st.characters(), max_size=5), JSON, max_size=5), max_size=5)
)
def test_any_record_is_one_line_of_json(records):
    with tempfile.TemporaryDirectory() as folder:
        journal = Journal(Path(folder, "l.duckdb"))
        for record in records:
            assert journal.append(record)
        if records:
            written = b"".join(path.read_bytes() for path in journal.directory.glob("*.open"))
            assert len([orjson.loads(line) for line in written.splitlines()]) == len(records)
        journal.close()


def test_an_unwritable_place_costs_records_and_nothing_else(tmp_path, caplog):
    blocked = tmp_path / "file"
    blocked.write_text("")
    journal = Journal(blocked / "sub" / "l.duckdb")
    assert [journal.append({}) for _ in range(50)] == [False] * 50
    assert (journal.written, journal.lost) == (0, 50)
    assert len(caplog.records) == 1
    assert guard.counts()["journal.lost"] == 50


def told_lost(journal: Journal) -> list[int]:
    return sorted(
        json.loads(alive.read_text())["lost"] for alive in journal.directory.glob("*.alive")
    )


def test_what_was_lost_is_told_beside_the_segments_and_once(ledger, monkeypatch):
    journal = Journal(ledger)
    full = OSError(28, "No space left on device")
    with monkeypatch.context() as broken:
        broken.setattr(journal, "_open", lambda _: (_ for _ in ()).throw(full))
        assert not journal.append({"name": "before there is a file to tell it in"})
    journal._retry_at = 0  # noqa: SLF001 - a second later
    assert journal.append({"name": "a"})
    assert told_lost(journal) == [1]
    with monkeypatch.context() as broken:
        broken.setattr(os, "write", lambda *_: (_ for _ in ()).throw(full))
        assert [journal.append({"name": "b"}) for _ in range(41)] == [False] * 41
    assert told_lost(journal) == [42]
    journal.close()
    assert journal.append({"name": "another process, which lost nothing"})
    assert told_lost(journal) == [0, 42]
    assert (journal.written, journal.lost) == (2, 42)
    journal.close()


def test_a_segment_that_cannot_be_renamed_now_is_renamed_later(ledger, monkeypatch):
    journal = Journal(ledger)
    journal.append({"name": "a"})
    with monkeypatch.context() as broken:
        broken.setattr(Path, "rename", lambda *_: (_ for _ in ()).throw(OSError(5, "I/O error")))
        journal.seal()
        assert journal.append({"name": "b"})
        journal.seal()
    assert list(journal.directory.glob("*.ndjson")) == []
    journal.append({"name": "c"})
    journal.seal()
    assert len(list(journal.directory.glob("*.ndjson"))) == 3
    assert not list(journal.directory.glob("*.open"))
    assert (journal.written, journal.lost) == (3, 0)
    journal.close()


def test_after_a_short_write_the_next_record_stands_on_its_own_line(ledger, make):
    """A real limit on file size makes the kernel write half a record."""
    script = f"""
import resource, signal, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from spanflow.ledger.journal import Journal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
journal = Journal(Path({str(ledger)!r}), segment_seconds=1000)
record = {{"phase": "end", "kind": "span", "trace_id": "a" * 32, "started_ns": 1}}
assert journal.append({{**record, "span_id": "1"*16}})
size = journal._size
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 40, resource.RLIM_INFINITY))
assert not journal.append({{**record, "span_id": "2"*16}})
assert not journal.append({{**record, "span_id": "3"*16}})
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
assert journal.append({{**record, "span_id": "4"*16}})
assert (journal.written, journal.lost) == (2, 2), (journal.written, journal.lost)
"""
    subprocess.run([sys.executable, "-c", script], check=True)
    assert [
        row["span_id"][0] for row in make.ask(ledger, "SELECT span_id FROM spans ORDER BY ALL")
    ] == ["1", "4"]
    assert make.ask(ledger, "SELECT count FROM diagnostics WHERE name = 'refused_records'") == [
        {"count": 1}
    ]


def test_a_write_inside_a_write_is_kept(ledger, monkeypatch):
    journal = Journal(ledger)
    inner = []
    write = os.write

    def interrupted(descriptor, data):
        if b"outer" in data and not inner:
            inner.append(journal.append({"name": "inner"}))
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", interrupted)
    assert journal.append({"name": "outer"})
    assert inner == [True]
    assert [line["name"] for line in lines(journal)] == ["outer", "inner"]
    journal.close()


def test_many_threads_write_whole_lines(ledger):
    journal = Journal(ledger, segment_bytes=20_000)

    def work(number):
        for index in range(200):
            journal.append({"name": f"{number}.{index}", "pad": "x" * 50})

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({line["name"] for line in lines(journal)}) == 1600
    journal.close()


def test_a_folder_removed_under_a_journal_is_survived(ledger):
    import shutil

    journal = Journal(ledger)
    journal.append({"name": "a"})
    shutil.rmtree(f"{ledger}.d")
    journal.seal()
    assert journal.lost == 1
    assert journal.append({"name": "b"})
    assert [line["name"] for line in lines(journal)] == ["b"]
    assert told_lost(journal) == [1]
    journal.close()


def test_the_journal_never_imports_duckdb(tmp_path):
    script = (
        "import sys; from pathlib import Path; from spanflow.ledger.journal import Journal;"
        f"Journal(Path({str(tmp_path / 'l.duckdb')!r})).append({{'name': 'a'}});"
        "sys.exit('duckdb' in sys.modules or 'opentelemetry' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
