"""Time to append one record to the journal: the ledger's only work on the caller's thread."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING

from spanflow.ledger.journal import Journal

if TYPE_CHECKING:
    from pathlib import Path

_STEP = {
    "v": 1,
    "source": "capture",
    "phase": "end",
    "kind": "step",
    "trace_id": "0af7651916cd43dd8448eb211c80319c",
    "span_id": "b7ad6b7169203331",
    "parent_span_id": "00f067aa0ba902b7",
    "engagement_id": "01931f5e-7c5a-7d3e-9c1a-2f6f0a9f8e11",
    "turn_id": "00f067aa0ba902b7",
    "step_id": "b7ad6b7169203331",
    "name": "search",
    "path": "search",
    "visit": 1,
    "attempts": 1,
    "superstep": 2,
    "status": "completed",
    "service_name": "bench",
}


def measure(records: int, folder: Path) -> tuple[float, float]:
    """Append `records` records; return the microseconds of one, in the median and at p99.9."""
    journal = Journal(folder / "append.duckdb")
    taken: list[int] = []
    try:
        for _ in range(records):
            now = time.time_ns()
            record = {**_STEP, "started_ns": now, "ended_ns": now}
            before = time.perf_counter_ns()
            journal.append(record)
            taken.append(time.perf_counter_ns() - before)
    finally:
        journal.close()
    return statistics.median(taken) / 1_000, sorted(taken)[int(records * 0.999)] / 1_000
