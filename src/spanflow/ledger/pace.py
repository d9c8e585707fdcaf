"""How much of the machine an ingest may take: little beside a running agent, all of it on demand.

Numbers only; what is done with them is decided where the store is opened and read.
"""

from __future__ import annotations

import os
from typing import NamedTuple

__all__ = ["GENTLE", "Pace", "swift"]

_MIB = 1024 * 1024


class Pace(NamedTuple):
    """Threads and memory of one ingest, and how much of the journal becomes rows at once."""

    threads: int
    memory_bytes: int
    batch_bytes: int


GENTLE = Pace(threads=1, memory_bytes=256 * _MIB, batch_bytes=16 * _MIB)
"""Inside somebody's running process: one core, and small transactions."""


def swift() -> Pace:
    """Return the pace of a command that a person waits for: all cores, a quarter of the memory.

    Large transactions fill whole row groups, which DuckDB writes at once instead of by way of its
    write-ahead log.
    """
    memory = min(max(_memory_bytes() // 4, GENTLE.memory_bytes), 4096 * _MIB)
    return Pace(os.cpu_count() or 1, memory, max(memory // 8, GENTLE.batch_bytes))


def _memory_bytes() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError, AttributeError):
        return 0
