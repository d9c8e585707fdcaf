"""Added time per step or call: bare, with plain SDK spans and with spanflow, block by block."""

from __future__ import annotations

import json
import operator
import os
import random
import statistics
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.chain import NODES

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CONTENDERS = ("bare", "floor", "spanflow")
RUNS_A_BLOCK = 5


@dataclass(frozen=True)
class Overhead:
    """Microseconds per step or call of each contender, one figure a block, in their order."""

    bare: list[float]
    floor: list[float]
    spanflow: list[float]

    @property
    def added_us(self) -> float:
        """What spanflow adds to the bare graph."""
        return _median_of(self.spanflow, self.bare, operator.sub)

    @property
    def floor_added_us(self) -> float:
        """What one plain SDK span with ten attributes adds to the bare graph."""
        return _median_of(self.floor, self.bare, operator.sub)

    @property
    def ratio(self) -> float:
        """How much longer a step or call takes than in the bare graph."""
        return _median_of(self.spanflow, self.bare, operator.truediv)


def _median_of(
    left: list[float], right: list[float], compare: Callable[[float, float], float]
) -> float:
    # Compared within each block, whose contenders ran within milliseconds of each other: what else
    # the machine did in these minutes drops out.
    return statistics.median(map(compare, left, right))


def measure(mode: str, blocks: int, folder: Path) -> Overhead:
    """Run every contender once a block, in random order.

    Args:
        mode: `sync` or `async` steps, calls of a `model` or of `litellm`, steps of `plain` Python,
            or these with capture `off`.
        blocks: How many blocks of a few runs each contender makes.
        folder: Where the ledger goes.
    """
    workers = {contender: _start(contender, mode, folder) for contender in CONTENDERS}
    taken: dict[str, list[float]] = {contender: [] for contender in CONTENDERS}
    try:
        for contender in CONTENDERS:
            _ask(workers[contender], 50)  # warm: imports, caches, first segments
        for _ in range(blocks):
            for contender in random.sample(CONTENDERS, len(CONTENDERS)):
                nanoseconds = statistics.median(_ask(workers[contender], RUNS_A_BLOCK))
                taken[contender].append(nanoseconds / NODES / 1_000)
    finally:
        for worker in workers.values():
            worker.communicate(timeout=60)
    return Overhead(**taken)


def _start(contender: str, mode: str, folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "bench.worker", contender, mode],
        env={**os.environ, "SPANFLOW_LEDGER": str(folder / f"{contender}-{mode}.duckdb")},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def _ask(worker: subprocess.Popen[str], runs: int) -> list[int]:
    assert worker.stdin is not None
    assert worker.stdout is not None
    worker.stdin.write(f"{runs}\n")
    worker.stdin.flush()
    return json.loads(worker.stdout.readline())
