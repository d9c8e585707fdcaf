"""How the store becomes the file that people open: copied and renamed, never written in place.

Readers keep the old file for as long as they hold it open, and lock nobody.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from typing import TYPE_CHECKING, TypedDict, cast

import orjson

from spanflow import guard
from spanflow.ledger.election import elected
from spanflow.ledger.gather import ingest
from spanflow.ledger.places import PRIVATE_FILE, Places

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


class _Published(TypedDict):
    """What was published last."""

    revision: int
    store_size: int
    store_mtime_ns: int
    at: float
    seconds: float


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
    places = Places.of(ledger)
    if not places.store.exists():
        return False
    last = _last_published(places)
    if not _is_due(places, last, force=force):
        return False
    with elected(places, wait_s=wait_s) as won:
        if not won:
            return False
        revision = _settled_revision(places)
        current = places.store.stat()
        published: _Published = {
            "revision": revision,
            "store_size": current.st_size,
            "store_mtime_ns": current.st_mtime_ns,
            "at": time.time(),
            "seconds": last["seconds"] if last else 0.0,
        }
        fresh = last is None or last["revision"] != revision or not places.ledger.exists()
        if fresh:
            began = time.monotonic()
            _replace(places)
            published["seconds"] = time.monotonic() - began
            published["at"] = time.time()
        elif last is not None:
            published["at"] = last["at"]
        _remember(places, published)
        return fresh


def refresh(ledger: Path, *, idle_after: timedelta | None = None) -> None:
    """Bring the published file up to date, as far as that can be done now.

    A ledger that came here alone, without its folder, is as new as it can be. Where another process
    is at work, or nothing may be written here, the file is read as it is.

    Args:
        ledger: The published file.
        idle_after: What the views take as silence from now on; None leaves that as it is.

    Raises:
        LedgerError: The store is newer than this package or damaged.
    """
    places = Places.of(ledger)
    if not places.directory.is_dir():
        return
    try:
        ingest(ledger, wait_s=REFRESH_WAITS_S, idle_after=idle_after)
        publish(ledger, force=True, wait_s=REFRESH_WAITS_S)
    except OSError as error:
        guard.diagnose("ledger.refresh", f"{error!r}; the file is read as it is")


def _is_due(places: Places, last: _Published | None, *, force: bool) -> bool:
    if last is None or not places.ledger.exists():
        return True
    current = places.store.stat()
    if (current.st_size, current.st_mtime_ns) == (last["store_size"], last["store_mtime_ns"]):
        return _write_ahead_log(places.store).exists()
    if force:
        return True
    waited = time.time() - last["at"]
    # A clock that was set back must not stop publishing.
    return waited < 0 or waited >= max(SHORTEST_INTERVAL_S, COPY_TIMES * last["seconds"])


def _settled_revision(places: Places) -> int:
    """Return the store's revision; opening it also replays what a killed ingester left."""
    from spanflow.ledger.store import open_store  # noqa: PLC0415 - duckdb only where there is work

    with open_store(places) as connection:
        row = connection.execute("SELECT revision FROM meta").fetchone()
    return int(row[0]) if row else 0


def _replace(places: Places) -> None:
    places.copy.unlink(missing_ok=True)
    mode = PRIVATE_FILE
    with contextlib.suppress(FileNotFoundError):
        # Whoever opened the file to others meant it.
        mode = places.ledger.stat().st_mode & 0o777
    _copy(places.store, places.copy)
    descriptor = os.open(places.copy, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.fchmod(descriptor, mode)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    # One left by a reader that wrote, or by a crash, would keep the new file from being opened.
    _write_ahead_log(places.ledger).unlink(missing_ok=True)
    places.copy.replace(places.ledger)


def _copy(source: Path, target: Path) -> None:
    with source.open("rb") as reader, target.open("xb") as writer:
        if fcntl is not None:
            try:
                fcntl.ioctl(writer.fileno(), _FICLONE, reader.fileno())
            except OSError:
                pass
            else:
                return
        shutil.copyfileobj(reader, writer, 4 * 1024 * 1024)


def _write_ahead_log(file: Path) -> Path:
    return file.with_name(file.name + ".wal")


def _last_published(places: Places) -> _Published | None:
    try:
        told = orjson.loads(places.published.read_bytes())
        return {
            "revision": int(told["revision"]),
            "store_size": int(told["store_size"]),
            "store_mtime_ns": int(told["store_mtime_ns"]),
            "at": float(told["at"]),
            "seconds": float(told["seconds"]),
        }
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _remember(places: Places, published: _Published) -> None:
    fresh = places.published.with_suffix(".new")
    fresh.write_bytes(orjson.dumps(cast("dict[str, object]", published)))
    fresh.replace(places.published)
