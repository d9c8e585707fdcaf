"""How the store becomes the file that people open: copied and renamed, never written in place.

Readers keep the old file for as long as they hold it open, and lock nobody.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from typing import IO, TYPE_CHECKING

from spanflow import guard
from spanflow.ledger.damage import State, examine, is_circumstance, write_ahead_log
from spanflow.ledger.election import elected
from spanflow.ledger.gather import ingest
from spanflow.ledger.places import PRIVATE_FILE, Places
from spanflow.ledger.published import Published, identity_of, last_published, make_way, remember

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows
    fcntl = None

if TYPE_CHECKING:
    from datetime import timedelta
    from pathlib import Path

__all__ = ["publish", "refresh"]

SHORTEST_INTERVAL_S = 2.0
COPY_TIMES = 20
"""Unless forced, publishing takes at most a twentieth of the time."""
REFRESH_WAITS_S = 5.0
# Linux's ioctl that lets two files share their blocks, where the file system can.
_FICLONE = 0x40049409


def publish(ledger: Path, *, force: bool = False, wait_s: float = 0.0) -> bool:
    """Replace the published file by a copy of the store, if rows changed since the last time.

    Args:
        ledger: The published file.
        force: Do not spare the disk: publish even where the last copy was made a moment ago.
        wait_s: How long to wait for an ingester to finish.

    Returns:
        Whether a new file was published.

    Raises:
        LedgerError: The store cannot be used.
        OSError: The copy could not be made; the old file stays.
    """
    return bool(_publish_in_turn(Places.of(ledger), force=force, wait_s=wait_s))


def _publish_in_turn(places: Places, *, force: bool, wait_s: float) -> bool | None:
    """Publish when it is our turn; None where an ingester was at work all that time."""
    if not places.store.exists():
        return False
    if not _is_due(places, last_published(places), force=force):
        return False
    with elected(places, wait_s=wait_s) as won:
        return _publish(places) if won else None


def _publish(places: Places) -> bool:
    from spanflow.ledger.store import settled_revision  # noqa: PLC0415 - duckdb only where there is work

    last = last_published(places)
    # Whatever else lies at the ledger's path is not replaced.
    there = make_way(places, last)
    revision = settled_revision(places)
    current = places.store.stat()
    published: Published = {
        "revision": revision,
        "schema": _schema(),
        "store_size": current.st_size,
        "store_mtime_ns": current.st_mtime_ns,
        "at": last["at"] if last else 0.0,
        "seconds": last["seconds"] if last else 0.0,
        "file": [],
    }
    fresh = (
        not there
        or last is None
        or (last["revision"], last["schema"]) != (revision, published["schema"])
    )
    if fresh:
        began = time.monotonic()
        _replace(places)
        published["seconds"] = time.monotonic() - began
        published["at"] = time.time()
    elif (
        write_ahead_log(places.ledger).exists() and examine(places.ledger).state is not State.LOCKED
    ):
        # Nobody has the file open for writing: whoever wrote that has an older one, or is dead. Its
        # writes would appear in this file, or keep it from being opened.
        write_ahead_log(places.ledger).unlink(missing_ok=True)
    published["file"] = identity_of(places.ledger)
    if published != last:
        remember(places, published)
    return fresh


def refresh(
    ledger: Path, *, idle_after: timedelta | None = None, wait_s: float | None = None
) -> bool:
    """Bring the published file up to date, as far as that can be done now.

    A ledger that came here alone, without its folder, is as new as it can be. Where another process
    is at work, or nothing may be written here now, the file is read as it is.

    Args:
        ledger: The published file.
        idle_after: What the views take as silence from now on; None leaves that as it is.
        wait_s: How long to wait for an ingester to finish; None for as long as a reader waits.

    Returns:
        Whether everything that was ready is in the published file.

    Raises:
        LedgerError: The store is newer than this package, or something of somebody else's lies at
            the ledger's path.
    """
    places = Places.of(ledger)
    if not places.directory.is_dir():
        return True
    try:
        patience_s = REFRESH_WAITS_S if wait_s is None else wait_s
        report = ingest(ledger, wait_s=patience_s, idle_after=idle_after)
        published = _publish_in_turn(places, force=True, wait_s=REFRESH_WAITS_S)
    except Exception as error:
        if not (is_circumstance(error) or is_circumstance(error.__cause__)):
            raise
        guard.diagnose("ledger.refresh", f"{error}; the file is read as it is")
        return False
    return report is not None and published is not None


def _is_due(places: Places, last: Published | None, *, force: bool) -> bool:
    if last is None or last["schema"] != _schema() or identity_of(places.ledger) != last["file"]:
        return True
    if write_ahead_log(places.ledger).exists() or write_ahead_log(places.store).exists():
        return True
    current = places.store.stat()
    if (current.st_size, current.st_mtime_ns) == (last["store_size"], last["store_mtime_ns"]):
        return False
    if force:
        return True
    waited = time.time() - last["at"]
    # A clock that was set back must not stop publishing.
    return waited < 0 or waited >= max(SHORTEST_INTERVAL_S, COPY_TIMES * last["seconds"])


def _schema() -> str:
    from spanflow.ledger.store import migrations  # noqa: PLC0415 - only where there is a store

    return migrations()[-1][0]


def _replace(places: Places) -> None:
    places.copy.unlink(missing_ok=True)
    mode = PRIVATE_FILE
    with contextlib.suppress(FileNotFoundError):
        # Whoever opened the file to others meant it.
        mode = places.ledger.stat().st_mode & 0o777
    try:
        _copy(places.store, places.copy, mode)
        # One left by a reader that wrote, or by a crash, would keep the new file from being opened.
        write_ahead_log(places.ledger).unlink(missing_ok=True)
        places.copy.replace(places.ledger)
    finally:
        # On a full disk half a copy is in everybody's way.
        places.copy.unlink(missing_ok=True)


def _copy(source: Path, target: Path, mode: int) -> None:
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    made = os.open(target, flags, PRIVATE_FILE)
    with source.open("rb") as reader, open(made, "wb") as writer:  # noqa: PTH123 - a descriptor
        if not _share_blocks(reader, writer):
            shutil.copyfileobj(reader, writer, 4 * 1024 * 1024)
        writer.flush()
        os.fchmod(made, mode)
        os.fsync(made)


def _share_blocks(reader: IO[bytes], writer: IO[bytes]) -> bool:
    """Make one file a copy of another without copying, where the file system can."""
    if fcntl is None:  # pragma: no cover - Windows
        return False
    try:
        fcntl.ioctl(writer.fileno(), _FICLONE, reader.fileno())
    except OSError:
        return False
    return True
