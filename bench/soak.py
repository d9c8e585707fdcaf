"""Resident memory of one process that runs many steps: after a tenth of them, and at the end.

Run as a program it is the process that is watched: it makes the runs and prints two numbers.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_MEGABYTE = 1024 * 1024


@dataclass(frozen=True)
class Soak:
    """Megabytes of resident memory."""

    steps: int
    early_mb: float
    late_mb: float

    @property
    def grown_mb(self) -> float:
        """How much came on top after the first tenth."""
        return self.late_mb - self.early_mb


def measure(steps: int, folder: Path) -> Soak:
    """Run `steps` steps in a process of their own."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.soak", str(steps)],
        env={**os.environ, "SPANFLOW_LEDGER": str(folder / "soak.duckdb")},
        capture_output=True,
        text=True,
        check=True,
    )
    early, late = json.loads(done.stdout)
    return Soak(steps, early, late)


def _resident_mb() -> float:
    import psutil

    gc.collect()
    return psutil.Process().memory_info().rss / _MEGABYTE


def main() -> None:
    """Make the runs and print resident megabytes after a tenth and at the end."""
    import spanflow
    from bench.chain import NODES
    from bench.worker import prepare, runner

    prepare("spanflow", "sync")
    run = runner("spanflow", "sync")
    resident: list[float] = []
    # Loaded into the ledger after each tenth: what the first load keeps is in the first figure.
    for _ in range(10):
        run(int(sys.argv[1]) // NODES // 10)
        spanflow.flush(60)
        resident.append(_resident_mb())
    sys.stdout.write(json.dumps([resident[0], resident[-1]]))


if __name__ == "__main__":
    main()
