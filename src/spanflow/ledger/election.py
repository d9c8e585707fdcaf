"""Who may open the store: one elected process at a time, and never across a ``fork``.

DuckDB lets one process write a file. Election is a ``flock`` that is never waited for by anyone who
did not ask to wait.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from typing import TYPE_CHECKING

from spanflow.ledger.places import PRIVATE_FILE, Places
from spanflow.ledger.process import lock_file, unlock_file

if TYPE_CHECKING:
    from collections.abc import Generator

__all__ = ["elected"]

_POLL_S = 0.01
_FORK_WAITS_S = 5.0


class _Here:
    """What this process holds; a child that was forked too early must never open a store."""

    gate = threading.Lock()
    descriptor = -1
    tainted = False
    forking = False


@contextlib.contextmanager
def elected(places: Places, *, wait_s: float = 0.0) -> Generator[bool]:
    """Stand for election; yields whether it was won, and gives the office back afterwards.

    Args:
        places: Whose ingester.
        wait_s: How long to go on trying.
    """
    deadline = time.monotonic() + wait_s
    descriptor = _stand(places)
    while descriptor is None and time.monotonic() < deadline:
        # Between two tries nothing is held: a fork must not have to wait for somebody else's
        # ingest.
        time.sleep(_POLL_S)
        descriptor = _stand(places)
    if descriptor is None:
        yield False
        return
    try:
        yield True
    finally:
        _step_down(descriptor)


def _stand(places: Places) -> int | None:
    """Try once; return the locked descriptor, with the gate held, or None with nothing held."""
    if _Here.tainted or not _Here.gate.acquire(blocking=False):
        return None
    descriptor = -1
    try:
        descriptor = os.open(places.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE_FILE)
        if lock_file(descriptor):
            _Here.descriptor = descriptor
            with contextlib.suppress(OSError):
                # For whoever asks who is at work; of one width, so that a full disk is no matter.
                os.pwrite(descriptor, f"{os.getpid():>19}\n".encode("ascii"), 0)
            return descriptor
    except BaseException:
        _give_back(descriptor)
        raise
    _give_back(descriptor)
    return None


def _step_down(descriptor: int) -> None:
    _Here.descriptor = -1
    # Said aloud, as a child forked meanwhile may hold a copy that would keep the lock.
    unlock_file(descriptor)
    _give_back(descriptor)


def _give_back(descriptor: int) -> None:
    if descriptor >= 0:
        os.close(descriptor)
    _Here.gate.release()


def _before_fork() -> None:
    # A store that is open while its process forks would be found open, and dead, by the child:
    # duckdb keeps one instance a path in a process, and what is written through an inherited one is
    # silently lost.
    _Here.forking = _Here.gate.acquire(timeout=_FORK_WAITS_S)


def _after_fork_in_parent() -> None:
    if _Here.forking:
        _Here.forking = False
        _Here.gate.release()


def _after_fork_in_child() -> None:
    _Here.tainted = _Here.tainted or not _Here.forking
    _Here.forking = False
    _Here.gate = threading.Lock()
    descriptor, _Here.descriptor = _Here.descriptor, -1
    if descriptor >= 0:
        with contextlib.suppress(OSError):
            os.close(descriptor)


if hasattr(os, "register_at_fork"):  # pragma: no branch - absent on Windows only
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )
