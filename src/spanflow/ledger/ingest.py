"""When the ledger is ingested: on demand, and every few seconds in the background.

What an ingest does is said in :mod:`spanflow.ledger.gather`; here is only its rhythm.
"""

from __future__ import annotations

import os
import random
import threading
import time
import weakref
from typing import TYPE_CHECKING

from spanflow import guard
from spanflow.ledger.connections import interrupt
from spanflow.ledger.gather import IngestReport, ingest
from spanflow.ledger.pace import GENTLE
from spanflow.ledger.publish import publish

if TYPE_CHECKING:
    from datetime import timedelta
    from pathlib import Path

    from spanflow.ledger.journal import Journal

__all__ = ["BackgroundIngester", "IngestReport", "finish", "ingest"]

_JITTER = 0.25
_PAUSE_TIMES = 20
_LONGEST_PAUSE_TIMES = 10
# The last round of a process ends before its caller stops waiting for it.
_LAST_ROUND_SHARE = 0.9
_INTERRUPTED_FOR_S = 5.0
_ASK_AGAIN_S = 0.05


class BackgroundIngester:
    """A daemon thread that seals this process's journal, ingests and publishes, every few seconds.

    A forked child starts one of its own. Nothing that goes wrong ends it: it is counted and warned
    of.
    """

    def __init__(
        self,
        ledger: Path,
        journal: Journal,
        interval_s: float = 2.0,
        *,
        idle_after: timedelta | None = None,
    ) -> None:
        """Make an ingester that does nothing before :meth:`start`.

        Args:
            ledger: The published file.
            journal: This process's journal of it.
            interval_s: Seconds between rounds, give or take a quarter, so that processes do not
                march in step; more after a round that took long.
            idle_after: What the ledger's views take as silence; None leaves that as it is.
        """
        self._ledger = ledger
        self._journal = journal
        self._interval_s = interval_s
        self._idle_after = idle_after
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._deadline = 0.0
        _ingesters.add(self)

    def start(self) -> None:
        """Start the thread; starting twice does nothing."""
        if self._thread is not None and self._thread.is_alive():
            return
        self._stopping = threading.Event()
        self._thread = threading.Thread(
            target=self._run, args=(self._stopping,), name="spanflow-ingester", daemon=True
        )
        self._thread.start()

    def stop(self, timeout_s: float = 2.0) -> None:
        """Declare this process done with its journal, ingest what is left, and stop the thread.

        Args:
            timeout_s: How long to wait for that; what is not done by then, the next ingester of any
                process does.
        """
        self._deadline = time.monotonic() + timeout_s * _LAST_ROUND_SHARE
        thread, self._thread = self._thread, None
        if thread is None or not thread.is_alive():
            return
        self._stopping.set()
        finish(thread, timeout_s)

    def last_round(self, wait_s: float) -> None:
        """Declare this process done with its journal, and ingest what is left in this thread.

        Args:
            wait_s: How long to wait for another process's ingester.
        """
        self._journal.close()
        self._guarded_round(force=True, wait_s=wait_s)

    def run_once(self, *, force: bool = False, wait_s: float = 0.0) -> IngestReport | None:
        """Do one round now, in the calling thread: seal, ingest, publish.

        Args:
            force: Publish even where that was done a moment ago.
            wait_s: How long to wait for another process's ingester.

        Returns:
            What was ingested, or None if another ingester was at work or something went wrong.
        """
        if not self._journal.written:
            # A process that recorded nothing never needs duckdb: whoever did will ingest it.
            return IngestReport()
        try:
            self._journal.seal()
            report = ingest(self._ledger, wait_s=wait_s, idle_after=self._idle_after, pace=GENTLE)
            publish(self._ledger, force=force, wait_s=wait_s)
        except Exception as error:  # noqa: BLE001 - nothing may reach the user's run
            if type(error).__name__ != "InterruptException":  # we did that: the next does the work
                guard.report("ledger.ingest", error)
            return None
        return report

    def _run(self, stopping: threading.Event) -> None:
        worked_s = 0.0
        while not stopping.wait(self._next_pause_s(worked_s)):
            began_s = time.thread_time()
            self._guarded_round()
            worked_s = time.thread_time() - began_s
        self.last_round(max(0.0, self._deadline - time.monotonic()))

    def _next_pause_s(self, worked_s: float) -> float:
        # A round has a price of its own however little it finds: it takes a twentieth of one core
        # at most, as long as the ledger does not grow stale by that.
        interval_s = max(
            self._interval_s, min(_PAUSE_TIMES * worked_s, _LONGEST_PAUSE_TIMES * self._interval_s)
        )
        return interval_s * random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311 - no secret

    def _guarded_round(self, *, force: bool = False, wait_s: float = 0.0) -> None:
        try:
            self.run_once(force=force, wait_s=wait_s)
        except Exception as error:  # noqa: BLE001 - a thread has nobody to raise to
            guard.diagnose("ledger.ingest", repr(error))

    def _after_fork_in_child(self) -> None:
        was_running, self._thread = self._thread is not None, None
        if was_running:
            self.start()


def finish(thread: threading.Thread, timeout_s: float) -> None:
    """Wait for a thread that works on a store; past the time-out, interrupt it and let it end.

    Args:
        thread: The thread, running or not.
        timeout_s: How long it may take to do its work.
    """
    thread.join(timeout_s)
    deadline = time.monotonic() + _INTERRUPTED_FOR_S
    while thread.is_alive() and time.monotonic() < deadline:
        interrupt()
        thread.join(_ASK_AGAIN_S)


_ingesters: weakref.WeakSet[BackgroundIngester] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for ingester in list(_ingesters):
        ingester._after_fork_in_child()  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]


if hasattr(os, "register_at_fork"):  # pragma: no branch - absent on Windows only
    os.register_at_fork(after_in_child=_after_fork_in_child)
