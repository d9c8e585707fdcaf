"""What we make is its owner's alone, whatever the umask: no file is ever open to others."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

PROGRAM = f"""
import os, sys, time
os.umask(int(sys.argv[2], 8))
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
import conftest as make
from spanflow.ledger.journal import Journal
from spanflow.ledger.ingest import ingest
from spanflow.ledger.publish import publish
ledger = Path(sys.argv[1])
journal = Journal(ledger)
for number in range(int(sys.argv[3])):
    for n in range(200):
        journal.append(make.turn(number * 1000 + n + 1, error_message="x" * 2000))
    ingest(ledger)
    publish(ledger, force=True)
journal.append(make.turn(10**6))
print("done", flush=True)
time.sleep(60)
"""


def start(ledger: Path, umask: str, rounds: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(ledger), umask, str(rounds)],
        stdout=subprocess.PIPE,
        text=True,
    )


def open_to_others(top: Path, *, behind_closed_doors: bool) -> dict[str, str]:
    """Return what others than the owner could use below `top`, with its mode."""
    found = {}
    for folder, folders, files in os.walk(top):
        for name in (*folders, *files):
            path = Path(folder, name)
            try:
                mode = stat.S_IMODE(path.lstat().st_mode)
            except FileNotFoundError:
                continue
            if mode & 0o077:
                found[str(path.relative_to(top))] = oct(mode)
        if not behind_closed_doors:
            folders[:] = [one for one in folders if Path(folder, one).stat().st_mode & 0o077]
    return found


@pytest.mark.parametrize("umask", ["022", "000"])
def test_nothing_we_made_is_open_to_others(tmp_path, umask):
    top = tmp_path / "top"
    top.mkdir()
    ledger = top / "made" / "below" / "traces.duckdb"
    process = start(ledger, umask, 2)
    assert process.stdout
    assert process.stdout.readline() == "done\n"
    process.kill()
    process.communicate()
    names = {path.name for path in ledger.parent.rglob("*")}
    assert {"traces.duckdb", "store.duckdb", "published.json", "ingest.lock"} <= names
    assert open_to_others(top, behind_closed_doors=True) == {}


def test_nor_is_it_at_any_moment(tmp_path):
    """DuckDB makes its own files as it likes, behind the door of our folder."""
    top = tmp_path / "top"
    top.mkdir()
    ledger = top / "traces.duckdb"
    process = start(ledger, "000", 6)
    done = threading.Event()
    assert process.stdout
    threading.Thread(target=lambda: (process.stdout.readline(), done.set())).start()
    seen, looks = {}, 0
    while not done.is_set():
        seen |= open_to_others(top, behind_closed_doors=False)
        looks += 1
    process.kill()
    process.communicate()
    assert looks > 100
    assert seen == {}
