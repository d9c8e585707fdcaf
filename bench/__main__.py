"""`make bench`: measure everything in one run and print one table."""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench import append, overhead, soak, startup


def main() -> None:
    """Measure and print; a target missed is marked, and is no failure on a busy machine."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a minute instead of five")
    parser.add_argument("--steps", type=int, help="steps of the memory soak (100000; quick: 10000)")
    options = parser.parse_args()
    steps = options.steps or (10_000 if options.quick else 100_000)

    console = Console()
    table = Table(box=None, pad_edge=False)
    for at, title in enumerate(
        ("what", "bare", "ours", "added", "SDK", "× bare", "× SDK", "target")
    ):
        table.add_column(title, no_wrap=True, justify="right" if at else "left")
    with tempfile.TemporaryDirectory(prefix="spanflow-bench-") as name:
        folder = Path(name)
        for mode in ("sync", "async"):
            console.print(f"ten empty nodes in a chain, {mode} …")
            it = overhead.measure(mode, 80 if options.quick else 400, folder)
            table.add_row(
                f"one step, {mode}",
                f"{statistics.median(it.bare):.0f} µs",
                f"{statistics.median(it.spanflow):.0f} µs",
                f"{it.added_us:.0f} µs",
                f"{it.floor_added_us:.0f} µs",
                f"{it.ratio:.2f}",
                f"{it.added_us / max(it.floor_added_us, 0.1):.1f}",
                _target(it.added_us, 100),
            )
        console.print("the journal …")
        append_us = append.measure(5_000 if options.quick else 50_000, folder)
        table.add_row("one journal record", "", "", f"{append_us:.1f} µs")
        console.print("start-up …")
        start = startup.measure(5 if options.quick else 15, folder)
        table.add_row(
            "start-up, no agent",
            f"{start.without_ms:.0f} ms",
            f"{start.with_ms:.0f} ms",
            f"{start.added_ms:.0f} ms",
            "",
            f"{start.with_ms / start.without_ms:.2f}",
            "",
            _target(start.added_ms, 100),
        )
        console.print(f"memory over {steps:,} steps …")
        memory = soak.measure(steps, folder)
    console.print(table)
    console.print(
        f"Resident memory: {memory.early_mb:.0f} MB after {steps // 10:,} steps, "
        f"{memory.late_mb:.0f} MB after {steps:,} ({memory.grown_mb:+.1f} MB)."
    )
    console.print("SDK: what one plain span with ten attributes adds to a step.")


def _target(value: float, most: float) -> str:
    return f"≤ {most:.0f} {'[green]met[/]' if value <= most else '[red]over[/]'}"


if __name__ == "__main__":
    main()
