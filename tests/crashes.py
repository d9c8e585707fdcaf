"""What becomes of a run whose worker crashed: the file it was in is run once more, by itself.

A crash of an interpreter is nobody's assertion: it may be a library's. It is told loudly and never
forgiven twice: a second crash ends the run, and a file that fails again fails the run.
"""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

_crashed: list[str] = []


@pytest.hookimpl(optionalhook=True)
def pytest_handlecrashitem(crashitem: str, report: Any, sched: Any) -> None:
    """Let the first crash not be counted as a failure yet."""
    if not _crashed:
        report.outcome = "crashed"
    _crashed.append(crashitem)


def pytest_report_teststatus(report: Any) -> tuple[str, str, str] | None:
    """Call it what it is."""
    return ("crashed", "C", "CRASHED") if report.outcome == "crashed" else None


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Run the file of the test that crashed once more, in a process of its own."""
    if not _crashed or hasattr(session.config, "workerinput"):
        return
    file = _crashed[0].partition("::")[0]
    marks = session.config.option.markexpr
    again = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-m", marks, file]
    _say(f"A WORKER CRASHED in {_crashed[0]}. {file} is run once more:")
    returned = subprocess.run(again, cwd=session.config.rootpath, check=False).returncode
    _say(f"{len(_crashed)} crashed; run once more, {file} ended with {returned}")
    if returned:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _say(what: str) -> None:
    sys.stdout.write(f"\n!!! {what}\n")
    sys.stdout.flush()
