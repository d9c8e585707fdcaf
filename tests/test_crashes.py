"""A worker that crashes costs one more run of its file, once, and hides nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CRASHING = """
import os, signal
from pathlib import Path
times = Path(__file__).with_name("{name}.times")

def test_before():
    pass

def test_crashes():
    crashed = len(times.read_text()) if times.exists() else 0
    times.write_text("x" * (crashed + 1))
    if crashed < {times}:
        os.kill(os.getpid(), signal.SIGSEGV)

def test_after():
    assert {holds}
"""


def run(folder: Path, **files: str) -> subprocess.CompletedProcess[str]:
    (folder / "conftest.py").write_text("from crashes import *\n")
    (folder / "pytest.ini").write_text(f"[pytest]\npythonpath = {Path(__file__).parent}\n")
    for name, text in files.items():
        (folder / f"test_{name}.py").write_text(text)
    command = [sys.executable, "-m", "pytest", "-p", "xdist", "-n", "1", "--dist", "loadfile"]
    return subprocess.run(
        [*command, "--max-worker-restart", "1"],
        cwd=folder,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@pytest.mark.parametrize(
    ("times", "holds", "passes"), [(1, True, True), (2, True, False), (1, False, False)]
)
def test_its_file_is_run_once_more_and_must_pass_then(tmp_path, times, holds, passes):
    text = CRASHING.format(name="one", times=times, holds=holds)
    done = run(tmp_path, one=text, two="def test_other():\n    pass\n")
    assert "A WORKER CRASHED in test_one.py::test_crashes" in done.stdout
    assert "1 crashed" in done.stdout
    assert (done.returncode == 0) is passes, done.stdout


def test_a_second_crash_is_not_forgiven(tmp_path):
    files = {name: CRASHING.format(name=name, times=1, holds=True) for name in ("one", "two")}
    done = run(tmp_path, **files)
    assert "2 crashed" in done.stdout
    assert done.returncode != 0, done.stdout


def test_without_a_crash_nothing_is_said(tmp_path):
    done = run(tmp_path, one="def test_it():\n    pass\n")
    assert done.returncode == 0
    assert "!!!" not in done.stdout
