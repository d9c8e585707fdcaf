"""A real agent over a broken ledger: its run is the same, and the operator is told."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pytest
from asked import answer
from graphs import calling, chain, llm

import spanflow
from spanflow import guard
from spanflow.errors import LedgerError
from spanflow.ledger.journal import journal_for
from spanflow.ledger.publish import refresh

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

EXPECTED = {"log": ["a", "called", "c"]}


@pytest.fixture(autouse=True)
def _as_users_have_it() -> None:
    guard.set_strict(False)


@pytest.fixture
def agent(flow_with: Callable[..., Any]) -> Callable[..., None]:
    """Run an agent so many times over a ledger, and check its results."""

    def run(ledger: Path, times: int = 20) -> None:
        flow_with(ledger=ledger, ingest="background")
        graph = chain("a", "b", "c", b=calling(llm(2, 1)))
        for _ in range(times):
            assert graph.invoke({"log": []}) == EXPECTED

    return run


def engagements(ledger: Path) -> int:
    refresh(ledger)
    return asked(ledger, "SELECT count(*) FROM engagements")


def asked(ledger: Path, query: str) -> Any:
    return answer(ledger, query)[1][0][0]


class SmallDisk:
    """A disk that can be filled: a real one where mounting is allowed, else a write that fails."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        folder.mkdir()
        self.folder = folder
        self._patch = monkeypatch
        self._write = os.write
        mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)]
        self.is_real = sys.platform == "linux" and not _fails(mount)

    def fill(self) -> None:
        if not self.is_real:
            self._patch.setattr(os, "write", self._full)
            return
        with (self.folder / "filler").open("wb", buffering=0) as filler:
            try:
                while True:
                    filler.write(b"x" * 65_536)
            except OSError as error:
                assert error.errno == errno.ENOSPC  # noqa: PT017 - that is how it is filled

    def free(self) -> None:
        self._patch.setattr(os, "write", self._write)
        (self.folder / "filler").unlink(missing_ok=True)

    def close(self) -> None:
        if self.is_real:
            subprocess.run(["umount", "-l", str(self.folder)], check=False)

    def _full(self, descriptor: int, content: bytes) -> int:
        if content.startswith((b"{", b"!")):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self._write(descriptor, content)


def _fails(command: list[str]) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode != 0


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SmallDisk]:
    made = SmallDisk(tmp_path / "disk", monkeypatch)
    yield made
    made.free()
    spanflow.uninstrument()
    made.close()


def test_a_full_disk_costs_records_that_are_counted_and_nothing_else(agent, disk, caplog):
    ledger = disk.folder / "traces.duckdb"
    agent(ledger, 5)
    assert engagements(ledger) == 5
    disk.fill()
    journal = journal_for(ledger)
    agent(ledger, 60)
    spanflow.flush()
    lost, kept = journal.lost, journal.written
    assert lost > 100
    assert len(caplog.records) == 1, caplog.messages
    refresh(ledger)  # nor is a reader in trouble
    disk.free()
    time.sleep(1.1)  # it tries again once a second
    agent(ledger, 5)
    assert journal.lost == lost, "writing goes on"
    assert engagements(ledger) >= 10
    assert asked(ledger, "SELECT count FROM diagnostics WHERE name = 'lost_records'") == lost
    assert kept < journal.written
    refresh(ledger)
    assert asked(ledger, "SELECT count FROM diagnostics WHERE name = 'lost_records'") == lost


def test_what_a_killed_process_lost_on_a_full_disk_is_known(disk, make):
    ledger = disk.folder / "traces.duckdb"
    make.write(ledger, [make.turn(1)])
    refresh(ledger)
    program = f"""
import os, resource, signal, sys
from pathlib import Path
from spanflow.ledger.journal import Journal
journal = Journal(Path({str(ledger)!r}), segment_seconds=1000)
record = {{"kind": "span", "trace_id": "a" * 32, "span_id": "2" * 16, "name": "x" * 3000}}
assert journal.append(record)
limit = Path(journal._segment).stat().st_size + 40
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
for _ in range(1234):
    assert not journal.append(record)
os.kill(os.getpid(), signal.SIGKILL)
"""
    ended = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True)
    assert ended.returncode == -9, ended.stderr
    for _ in range(2):
        refresh(ledger)
        assert asked(ledger, "SELECT sum(lost) FROM losses") == 1234


def test_a_folder_that_cannot_be_written_is_survived_until_it_can(agent, tmp_path, caplog):
    folder = tmp_path / "folder"
    folder.mkdir()
    read_only = not _fails(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(folder)])
    if not read_only:
        # Without that right, a file in the folder's place serves as well: nothing can be made.
        folder.rmdir()
        folder.write_text("")
    ledger = folder / "traces.duckdb"
    try:
        agent(ledger)
        spanflow.flush()
        journal = journal_for(ledger)
        assert (journal.written, journal.lost > 100) == (0, True)
        assert len(caplog.records) == 1, caplog.messages
        if read_only:
            subprocess.run(["mount", "-o", "remount,rw", str(folder)], check=True)
        else:
            folder.unlink()
        time.sleep(1.1)  # it tries again once a second
        lost = journal.lost
        agent(ledger)
        assert journal.lost == lost
        assert engagements(ledger) == 20
        assert asked(ledger, "SELECT count FROM diagnostics WHERE name = 'lost_records'") == lost
    finally:
        spanflow.uninstrument()
        if read_only:
            subprocess.run(["umount", "-l", str(folder)], check=True)


def folder_there(ledger: Path) -> None:
    ledger.mkdir()


def others_database_there(ledger: Path) -> None:
    with duckdb.connect(str(ledger)) as connection:
        connection.execute("CREATE TABLE theirs AS SELECT 1 AS one")


def text_there(ledger: Path) -> None:
    ledger.write_text("my notes")


def newer_store(ledger: Path) -> None:
    refresh_from_nothing(ledger)
    with duckdb.connect(f"{ledger}.d/store.duckdb") as connection:
        connection.execute("INSERT INTO migrations VALUES ('9999_future.sql', now()::TIMESTAMP)")


def others_store(ledger: Path) -> None:
    Path(f"{ledger}.d").mkdir()
    others_database_there(Path(f"{ledger}.d/store.duckdb"))


def refresh_from_nothing(ledger: Path) -> None:
    from spanflow.ledger.places import Places
    from spanflow.ledger.store import open_store

    places = Places.of(ledger)
    places.make()
    with open_store(places):
        pass


def remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


@pytest.mark.parametrize(
    ("obstruct", "told", "in_the_way"),
    [
        (folder_there, "Is a directory", ""),
        (others_database_there, "no spanflow ledger", ""),
        (text_there, "no spanflow ledger", ""),
        (newer_store, "newer spanflow", ".d/store.duckdb"),
        (others_store, "somebody else's database", ".d/store.duckdb"),
    ],
)
def test_what_is_in_the_ledger_s_place_is_told_and_left_alone(  # noqa: PLR0913, PLR0917 - a table
    agent, tmp_path, caplog, obstruct, told, in_the_way
):
    ledger = tmp_path / "traces.duckdb"
    obstruct(ledger)
    agent(ledger)
    spanflow.flush()
    [line] = caplog.messages
    assert told in line
    with pytest.raises(LedgerError, match=told):
        refresh(ledger)
    remove(Path(f"{ledger}{in_the_way}"))
    assert engagements(ledger) == 20, "the records waited"


def test_a_store_that_another_process_holds_slows_nobody_down(agent, flow_with, tmp_path):
    ledger = tmp_path / "traces.duckdb"
    agent(ledger, 1)
    assert engagements(ledger) == 1
    program = (
        "import duckdb, fcntl, sys\n"
        f"store = duckdb.connect({ledger!s}.d/store.duckdb')\n"
        f"lock = open({ledger!s}.d/ingest.lock', 'r+')\n"
        "fcntl.flock(lock, fcntl.LOCK_EX)\n"
        "print('held', flush=True)\n"
        "sys.stdin.read()\n"
    ).replace(f"({ledger!s}", f"('{ledger!s}")
    holder = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout
    holder.stdout.readline()
    graph = chain("a", "b", "c", b=lambda state: time.sleep(0.05) or {"log": ["called"]})
    began = time.monotonic()
    with ThreadPoolExecutor(20) as pool:
        results = list(pool.map(lambda _: graph.invoke({"log": []}), range(100)))
    took = time.monotonic() - began
    assert results == [EXPECTED] * 100
    assert took < 20, "100 runs of 50 ms by 20 workers; a round of waiting would be 5 s"
    holder.communicate("")
    assert engagements(ledger) == 101
    assert asked(ledger, "SELECT max(duration_ms) FROM steps") < 5_000


@pytest.mark.parametrize("read_only", [True, False])
def test_a_published_file_that_is_held_open_for_ever_hinders_nobody(agent, tmp_path, read_only):
    ledger = tmp_path / "traces.duckdb"
    agent(ledger, 1)
    assert engagements(ledger) == 1
    program = (
        "import duckdb, sys\n"
        f"held = duckdb.connect({str(ledger)!r}, read_only={read_only})\n"
        "print('held', flush=True)\n"
        "sys.stdin.read()\n"
        "print(held.execute('SELECT count(*) FROM engagements').fetchall()[0][0])\n"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout
    holder.stdout.readline()
    for expected in (3, 5, 7):
        agent(ledger, 2)
        assert engagements(ledger) == expected
    out, _ = holder.communicate("")
    assert out == "1\n", "a reader keeps what it opened"
    assert guard.counts() == {}


def test_a_file_that_somebody_puts_over_the_published_one_is_left_alone(agent, tmp_path, caplog):
    ledger, theirs = tmp_path / "traces.duckdb", tmp_path / "theirs.duckdb"
    agent(ledger, 1)
    assert engagements(ledger) == 1
    others_database_there(theirs)
    before = theirs.read_bytes()
    theirs.replace(ledger)
    agent(ledger, 2)
    spanflow.flush()
    assert "no spanflow ledger" in caplog.text
    assert ledger.read_bytes() == before
    ledger.unlink()
    assert engagements(ledger) == 3


def test_the_background_ingester_meets_a_fault_and_goes_on(agent, tmp_path, caplog):
    """Without anybody asking: faults come and go under a process that goes on working."""
    ledger = tmp_path / "traces.duckdb"
    agent(ledger, 1)
    assert engagements(ledger) == 1
    for file in (Path(f"{ledger}.d/store.duckdb"), ledger):
        os.truncate(file, 20_000)
        agent(ledger, 1)
        until(lambda: "damaged" in caplog.text)
        caplog.clear()
        guard.reset()
    until(lambda: asked(ledger, "SELECT count(*) FROM engagements") >= 2)


def until(happened: Callable[[], Any], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            if happened():
                return
        except duckdb.Error:
            pass
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_threads_that_lose_records_at_once_count_every_one(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    journal = journal_for(blocked / "l.duckdb")
    threads = [
        threading.Thread(target=lambda: [journal.append({}) for _ in range(500)]) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert journal.lost == 4_000
