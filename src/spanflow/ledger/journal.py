"""The span path's only door to disk: a JSON line a record, in a segment of this process's own.

It never raises, never waits for another process and never syncs. It knows nothing of DuckDB and
reads nothing back.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
import weakref
from typing import TYPE_CHECKING

from spanflow import guard
from spanflow.ledger.encoding import encode
from spanflow.ledger.places import PRIVATE_FILE, Places
from spanflow.ledger.process import Presence, new_process_id

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

# Ends a torn line so that no reader takes the next one for its rest (duckdb 1.5, after a colon).
_MEND = b"!\n"

__all__ = [
    "BAD_SUFFIX",
    "OPEN_SUFFIX",
    "SEALED_SUFFIX",
    "Journal",
    "all_journals",
    "journal_for",
    "journals_of",
]

OPEN_SUFFIX = ".open"
SEALED_SUFFIX = ".ndjson"
BAD_SUFFIX = ".bad"
"""Of segments that nothing could read."""
RETRY_AFTER_S = 1.0
"""After a segment could not be opened, how long records are lost without trying again."""


class Journal:
    """One process's own writer of records for one ledger.

    Nothing is created on disk before the first record. After a ``fork`` the child goes on with the
    same object as a new process with segments of its own.
    """

    def __init__(
        self,
        ledger: Path,
        *,
        service_name: str | None = None,
        segment_bytes: int = 8 * 1024 * 1024,
        segment_seconds: float = 1.0,
    ) -> None:
        """Make a journal that will write beside `ledger`.

        Args:
            ledger: The published DuckDB file, which need not exist.
            service_name: Told to the ledger's table of processes.
            segment_bytes: A segment of this size is sealed and a new one begun.
            segment_seconds: So is one of this age, at the next record.
        """
        self._places = Places.of(ledger)
        self._service_name = service_name
        self._segment_bytes = segment_bytes
        self._segment_seconds = segment_seconds
        self.written = 0
        """Records appended by this process."""
        self.lost = 0
        """Records this process could not write."""
        self._start_afresh()
        _journals.add(self)

    @property
    def path(self) -> Path:
        """The published ledger file."""
        return self._places.ledger

    @property
    def directory(self) -> Path:
        """The folder of segments."""
        return self._places.journal

    @property
    def process_id(self) -> str:
        """The identity under which the next record is written."""
        return self._process_id

    def learn_service(self, name: str) -> None:
        """Take the name that the table of processes tells, where none was known before."""
        self._service_name = self._service_name or name

    def append(self, record: Mapping[str, object]) -> bool:
        """Write one record; return whether it was written.

        A record that cannot be written is counted in :attr:`lost` and warned of at most once a
        minute.
        """
        try:
            if self._pid != os.getpid():
                # Forked by something that ran no hooks.
                self._become_child()
            line = encode(record, self._process_id)
            with self._lock:
                if self._busy:
                    # A generator's `finally` or a signal handler runs inside our own write on this
                    # very thread.
                    self._deferred.append(line)
                    return True
                failure = self._write(line)
        except Exception as error:  # noqa: BLE001 - telemetry never raises into the span path
            failure = error
            self._lose(1)
        if failure is not None:
            guard.diagnose("journal.lost", f"{failure!r}; {self.lost} records lost so far")
        return failure is None

    def seal(self) -> None:
        """Finish the current segment, so that an ingester may take it."""
        with self._lock:
            if not self._busy and self._pid == os.getpid():
                self._seal()

    def close(self) -> None:
        """Seal and declare this process gone; a later record begins anew as another process."""
        with self._lock:
            if self._busy or self._pid != os.getpid():
                return
            self._seal()
            self._begin_anew()

    def _start_afresh(self) -> None:
        self._pid = os.getpid()
        self._process_id = new_process_id()
        # Re-entrant: a generator's `finally` may run inside the collector while we hold it.
        self._lock = threading.RLock()
        self._busy = False
        self._deferred: list[bytes] = []
        self._presence: Presence | None = None
        self._descriptor = -1
        self._segment: Path | None = None
        self._size = 0
        self._records_in_segment = 0
        self._seal_at = 0.0
        self._sequence = 0
        self._torn = False
        self._retry_at = 0.0
        self._lost_here = 0
        self._unsealed: list[tuple[Path, int]] = []

    def _become_child(self) -> None:
        """Close what was inherited and go on as a new process; the parent keeps what is its own."""
        descriptor, presence = self._descriptor, self._presence
        self.written = self.lost = 0
        self._start_afresh()
        if presence is not None:
            presence.forget()
        if descriptor >= 0:
            with contextlib.suppress(OSError):
                os.close(descriptor)

    def _write(self, line: bytes) -> Exception | None:
        """Write `line` and whatever arrived meanwhile; return what went wrong with it."""
        self._busy = True
        try:
            failure = self._write_one(line)
            while self._deferred:
                self._write_one(self._deferred.pop(0))
            return failure
        finally:
            self._busy = False

    def _write_one(self, line: bytes) -> Exception | None:
        now = time.monotonic()
        try:
            if self._descriptor >= 0 and (
                now >= self._seal_at or self._size >= self._segment_bytes
            ):
                self._seal()
            if self._descriptor < 0:
                if now < self._retry_at:
                    self._lose(1)
                    return OSError("the journal could not be opened a moment ago")
                self._open(now)
            data = _MEND + line if self._torn else line
            count = os.write(self._descriptor, data)
        except OSError as error:
            self._lose(1)
            if self._descriptor < 0:
                self._retry_at = now + RETRY_AFTER_S
            return error
        self._size += count
        if count != len(data):
            # The next record begins on a line of its own, and this one is refused by the reader.
            self._torn = True
            self._lose(1)
            return OSError(f"short write: {count} of {len(data)} bytes")
        self._torn = False
        self.written += 1
        self._records_in_segment += 1
        return None

    def _open(self, now: float) -> None:
        if self._presence is None:
            self._places.make()
            self._presence = Presence(
                self._places.journal, self._process_id, self._service_name, lost=self._lost_here
            )
        self._sequence += 1
        name = f"{time.time_ns():020d}-{self._process_id}-{self._sequence}{OPEN_SUFFIX}"
        segment = self._places.journal / name
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        self._descriptor = os.open(segment, flags, PRIVATE_FILE)
        self._segment = segment
        self._size = self._records_in_segment = 0
        self._torn = False
        self._seal_at = now + self._segment_seconds

    def _seal(self) -> None:
        descriptor, segment = self._descriptor, self._segment
        if descriptor >= 0 and segment is not None:
            self._descriptor, self._segment = -1, None
            with contextlib.suppress(OSError):
                os.close(descriptor)
            self._unsealed.append((segment, self._records_in_segment))
        while self._unsealed:
            segment, records = self._unsealed.pop(0)
            try:
                self._name_sealed(segment)
            except FileNotFoundError as error:
                self._abandon(records, error)
            except OSError as error:
                # The records are safe where they are: the next sealing tries again.
                self._unsealed.insert(0, (segment, records))
                guard.diagnose("journal.unsealed", repr(error))
                return

    def _name_sealed(self, segment: Path) -> None:
        if segment.stat().st_size:
            segment.rename(segment.with_suffix(SEALED_SUFFIX))
        else:
            segment.unlink()

    def _abandon(self, records: int, error: OSError) -> None:
        """Start over as a new process after somebody removed our segment under us."""
        self.written -= records
        self._begin_anew()
        self._lose(records)
        guard.diagnose("journal.segment_gone", f"{error!r}; {self.lost} records lost so far")

    def _begin_anew(self) -> None:
        """Let go of this identity; the next record is another process's."""
        presence, self._presence = self._presence, None
        self._process_id = new_process_id()
        # Whoever sees that the old one is gone takes what it left.
        self._unsealed.clear()
        if presence is not None:
            # Its file keeps what was lost under that identity.
            self._lost_here = 0
            presence.release()

    def _lose(self, records: int) -> None:
        with self._lock:
            self.lost += records
            self._lost_here += records
            if self._presence is not None:
                self._presence.tell_lost(self._lost_here)


_journals: weakref.WeakSet[Journal] = weakref.WeakSet()
_by_path: dict[Path, Journal] = {}
_by_path_lock = threading.RLock()


def journal_for(ledger: Path, *, service_name: str | None = None) -> Journal:
    """Return this process's one journal of `ledger`, made at the first call.

    Args:
        ledger: The published DuckDB file, which need not exist.
        service_name: Used where nobody who asked for this journal before knew it.
    """
    path = Places.of(ledger).ledger
    with _by_path_lock:
        journal = _by_path.get(path)
        if journal is None:
            journal = _by_path[path] = Journal(path, service_name=service_name)
        elif service_name is not None:
            journal.learn_service(service_name)
        return journal


def all_journals() -> list[Journal]:
    """Return every journal of this process."""
    return list(_journals)


def journals_of(ledger: Path) -> list[Journal]:
    """Return every journal of this process that writes to `ledger`."""
    path = Places.of(ledger).ledger
    return [journal for journal in all_journals() if journal.path == path]


def _after_fork_in_child() -> None:
    global _by_path_lock  # noqa: PLW0603 - another thread of the parent may have held it
    _by_path_lock = threading.RLock()
    for journal in all_journals():
        journal._become_child()  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]


if hasattr(os, "register_at_fork"):  # pragma: no branch - absent on Windows only
    os.register_at_fork(after_in_child=_after_fork_in_child)
