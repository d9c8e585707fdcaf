"""How far the ledger is behind: what this process's journals lost, and how long records wait.

It looks at names of segments and at counts in memory, and opens no file.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from spanflow.ledger.journal import OPEN_SUFFIX, SEALED_SUFFIX, all_journals

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["lag_s", "lost_records"]


def lost_records() -> int:
    """Return how many records this process could not keep."""
    return sum(journal.lost for journal in all_journals())


def lag_s(now_ns: int) -> float:
    """Return the age of the oldest segment that no ingester has taken yet; 0 where there is none.

    Segments of other processes beside this one's count as well: they are on their way to the same
    ledger.

    Args:
        now_ns: The time in nanoseconds since 1970.
    """
    begun_ns = [
        began for folder in {j.directory for j in all_journals()} for began in _segments(folder)
    ]
    return max(0, now_ns - min(begun_ns)) / 1e9 if begun_ns else 0.0


def _segments(folder: Path) -> Iterator[int]:
    """Yield when each segment of a folder began, as its name tells."""
    with contextlib.suppress(OSError):  # no folder before the first record
        for path in folder.iterdir():
            began = path.name.partition("-")[0]
            if path.suffix in {OPEN_SUFFIX, SEALED_SUFFIX} and began.isdigit():
                yield int(began)
