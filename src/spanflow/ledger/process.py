"""Who is writing: the identity of a process and the lock by which others see that it lives.

A process holds one ``flock`` on its ``.alive`` file for as long as it may write. The kernel drops
the lock when the last descriptor of it is closed, however the process dies, so no heartbeat and no
clock is needed. This module decides nothing about segments.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import socket
import time
from pathlib import Path
from typing import cast

import orjson

from spanflow.ledger.places import PRIVATE_FILE

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows, where the ledger says that it does not work
    fcntl = None

__all__ = [
    "ALIVE_SUFFIX",
    "Presence",
    "is_alive",
    "lock_file",
    "new_process_id",
    "told_by",
    "unlock_file",
]

ALIVE_SUFFIX = ".alive"
_LOST_DIGITS = 19
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def new_process_id() -> str:
    """Return a new identity ``<boot8>-<pid>-<start>-<random8>``, unique in space and time."""
    return f"{_boot()}-{os.getpid()}-{time.time_ns() // 1_000_000:x}-{secrets.token_hex(4)}"


def _boot() -> str:
    try:
        return _BOOT_ID.read_text("ascii")[:8]
    except (OSError, ValueError):
        # Where the kernel tells no boot id the random part alone keeps identities apart.
        return "0" * 8


class Presence:
    """The lifelong lock of one process on its ``.alive`` file in one journal folder.

    The file also counts the records which the process could not keep. The count has a fixed width
    and is written in place: that takes no new block, so it works on a full disk.
    """

    def __init__(
        self, journal: Path, process_id: str, service_name: str | None, *, lost: int = 0
    ) -> None:
        """Create the ``.alive`` file, locked before anybody can see it.

        Args:
            journal: An existing journal folder.
            process_id: Whose presence it is.
            service_name: Told to the ledger's table of processes.
            lost: Records lost before there was a file to count them in.

        Raises:
            OSError: The file cannot be made or locked.
        """
        self.path = journal / f"{process_id}{ALIVE_SUFFIX}"
        hidden = journal / f".{process_id}.new"
        self._pid = os.getpid()
        self._descriptor = os.open(
            hidden, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE_FILE
        )
        try:
            # Nobody else knows the file, so there is nobody to have it locked.
            lock_file(self._descriptor)
            line = {
                "process_id": process_id,
                "pid": self._pid,
                "host": socket.gethostname(),
                "started_ns": time.time_ns(),
                "service_name": service_name,
            }
            told = orjson.dumps(line, default=str)[:-1] + b',"lost":'
            self._lost_at = len(told)
            told += _padded(lost) + b"}\n"
            _write_whole(self._descriptor, told)
            # Named only now: who tries a visible file's lock can never win it from a living owner.
            hidden.rename(self.path)
        except BaseException:
            os.close(self._descriptor)
            with contextlib.suppress(OSError):
                hidden.unlink()
            raise

    def tell_lost(self, lost: int) -> None:
        """Say how many records were lost so far; a crash right afterwards does not undo it."""
        with contextlib.suppress(OSError):
            os.pwrite(self._descriptor, _padded(lost), self._lost_at)

    def release(self) -> None:
        """Let go of the lock; the file stays and tells the next ingester that we are gone."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def forget(self) -> None:
        """Close what a forked child inherited without unlocking it: the lock is its parent's."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            with contextlib.suppress(OSError):
                os.close(descriptor)


def _write_whole(descriptor: int, content: bytes) -> None:
    if os.write(descriptor, content) != len(content):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _padded(lost: int) -> bytes:
    return str(lost).rjust(_LOST_DIGITS).encode("ascii")


def told_by(alive_file: Path) -> dict[str, object]:
    """Return what a process said of itself, or nothing where that cannot be read any more."""
    try:
        line = orjson.loads(alive_file.read_bytes())
    except (OSError, ValueError):
        return {}
    return cast("dict[str, object]", line) if isinstance(line, dict) else {}


def is_alive(path: Path) -> bool:
    """Return whether the process of the ``.alive`` file at `path` lives.

    Takes and drops a *shared* lock on a descriptor of its own, so that two who ask at once do not
    see each other. A missing file is a process that is gone.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        return not lock_file(descriptor, shared=True)
    finally:
        os.close(descriptor)


def lock_file(descriptor: int, *, shared: bool = False) -> bool:
    """Try to take the ``flock`` of an open file without waiting; return whether it was had.

    Raises:
        OSError: The file system has no such locks.
    """
    if fcntl is None:  # pragma: no cover - Windows
        raise OSError(errno.ENOSYS, "the ledger needs the file locks of Linux or macOS")
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def unlock_file(descriptor: int) -> None:
    """Drop the lock at once, even where a forked child still holds a copy of the descriptor."""
    if fcntl is not None:
        fcntl.flock(descriptor, fcntl.LOCK_UN)
