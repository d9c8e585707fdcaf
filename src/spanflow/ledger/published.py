"""What was published last, and whether what lies at the ledger's path may be replaced.

Whatever is not certainly ours is left alone; it publishes nothing itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict, cast

import orjson

from spanflow import guard
from spanflow.errors import LedgerError
from spanflow.ledger.damage import State, examine, set_aside
from spanflow.ledger.places import write_private

if TYPE_CHECKING:
    from pathlib import Path

    from spanflow.ledger.places import Places

__all__ = ["Published", "identity_of", "last_published", "make_way", "remember"]


class Published(TypedDict):
    """What was published last.

    Attributes:
        revision: The store's revision in it.
        schema: The newest migration in it; a file whose views are of another version is old.
        store_size: The store's size then.
        store_mtime_ns: When the store had been written last.
        at: When it was published, in seconds since the epoch.
        seconds: How long the copy took.
        file: The published file's :func:`identity_of`.
    """

    revision: int
    schema: str
    store_size: int
    store_mtime_ns: int
    at: float
    seconds: float
    file: list[int]


def last_published(places: Places) -> Published | None:
    """Return what was published last, or None where that is not known."""
    try:
        told = orjson.loads(places.published.read_bytes())
        return {
            "revision": int(told["revision"]),
            "schema": str(told.get("schema")),
            "store_size": int(told["store_size"]),
            "store_mtime_ns": int(told["store_mtime_ns"]),
            "at": float(told["at"]),
            "seconds": float(told["seconds"]),
            "file": [int(number) for number in told["file"]],
        }
    except (OSError, ValueError, TypeError, KeyError):
        return None


def remember(places: Places, published: Published) -> None:
    """Write down what was published.

    Raises:
        OSError: It cannot be written.
    """
    fresh = places.published.with_suffix(".new")
    write_private(fresh, orjson.dumps(cast("dict[str, object]", published)))
    fresh.replace(places.published)


def identity_of(file: Path) -> list[int]:
    """Return device, inode, size and time of a file; nothing of one that is empty or not there.

    Whoever replaces the file or writes into it changes one of them.
    """
    try:
        found = file.stat()
    except FileNotFoundError:
        return []
    if not found.st_size:
        return []
    return [found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns]


def make_way(places: Places, last: Published | None, *, thoroughly: bool = False) -> bool:
    """Make sure that the file at the ledger's path may be replaced.

    One that we published and that can no longer be read is set aside.

    Args:
        places: Whose ledger.
        last: What was published last.
        thoroughly: Trust no file that is as it was left, and read it to its end.

    Returns:
        Whether a ledger lies there.

    Raises:
        LedgerError: Something else lies there, or nobody can tell.
    """
    current = identity_of(places.ledger)
    if not current:
        return False
    known = last["file"] if last is not None else []
    if current == known and not thoroughly:
        return True
    # Where somebody has been at what we published, the part that opens may be all that is left.
    state, reason = examine(places.ledger, thoroughly=thoroughly or bool(known))
    if state in (State.OURS, State.ABSENT):
        return state is State.OURS
    if state in (State.DAMAGED, State.NO_DATABASE) and current[:2] == known[:2]:
        aside = set_aside(places.ledger, places.directory)
        guard.diagnose(
            "ledger.published_damaged",
            f"{places.ledger} was damaged ({reason}): it was moved to {aside} and is written anew",
        )
        return False
    if state is State.LOCKED:
        message = (
            f"{places.ledger} was replaced or changed, and {reason}. "
            "It was left alone; it is published anew when that program has closed it."
        )
    else:
        message = (
            f"{places.ledger} is there and is no spanflow ledger ({reason}). "
            "It was left alone: give the ledger another path."
        )
    raise LedgerError(message)
