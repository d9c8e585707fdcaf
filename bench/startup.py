"""Added start-up time of an auto-instrumented program that never uses an agent framework."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

_QUIET = {
    "OTEL_TRACES_EXPORTER": "none",
    "OTEL_METRICS_EXPORTER": "none",
    "OTEL_LOGS_EXPORTER": "none",
}


@dataclass(frozen=True)
class Startup:
    """Median milliseconds from start to end of an empty program."""

    without_ms: float
    with_ms: float

    @property
    def added_ms(self) -> float:
        """What enabling spanflow adds."""
        return self.with_ms - self.without_ms


def measure(times: int, folder: Path) -> Startup:
    """Start an empty program `times` times with and without spanflow, in turn."""
    off = {"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "spanflow"}
    on = {"SPANFLOW_LEDGER": str(folder / "startup.duckdb")}
    taken: dict[str, list[float]] = {"off": [], "on": []}
    for _ in range(times):
        taken["off"].append(_start(off))
        taken["on"].append(_start(on))
    return Startup(statistics.median(taken["off"]), statistics.median(taken["on"]))


def _start(variables: dict[str, str]) -> float:
    program = Path(sys.executable).with_name("opentelemetry-instrument")
    before = time.perf_counter()
    subprocess.run(
        [program, sys.executable, "-c", "pass"],
        env={**os.environ, **_QUIET, **variables},
        check=True,
    )
    return (time.perf_counter() - before) * 1_000
