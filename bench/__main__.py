"""`make bench`: measure everything in one run and print one table."""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from bench import analytics, append, kills, ledger, overhead, soak, startup

if TYPE_CHECKING:
    from collections.abc import Sequence

_SPANS_A_SECOND = 150_000
_WHOLE_FROM_US = 10


def main() -> None:
    """Measure and print; a target missed is marked, and is no failure on a busy machine."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a minute instead of five")
    parser.add_argument("--steps", type=int, help="steps of the memory soak (100000; quick: 10000)")
    parser.add_argument(
        "--spans", type=int, help="spans of the large ledger (10000000; quick: 300000)"
    )
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
        for mode, what, most in (
            ("sync", "one step, sync", 100),
            ("async", "one step, async", 100),
            ("plain", "one step, plain", 100),
            ("off", "… with capture off", 5),
            ("model", "one call, LangChain", None),
            ("litellm", "one call, LiteLLM", None),
        ):
            console.print(f"{what} (ten in a run) …")
            it = overhead.measure(mode, 80 if options.quick else 400, folder)
            table.add_row(
                what,
                f"{statistics.median(it.bare):.0f} µs",
                f"{statistics.median(it.spanflow):.0f} µs",
                _microseconds(it.added_us),
                f"{it.floor_added_us:.0f} µs",
                f"{it.ratio:.2f}" if statistics.median(it.bare) > 1 else "",
                f"{it.added_us / max(it.floor_added_us, 0.1):.1f}",
                _target(it.added_us, most) if most else "",
            )
        console.print("the journal …")
        usual_us, worst_us = append.measure(5_000 if options.quick else 50_000, folder)
        nothing = ("",) * 3
        table.add_row(
            "a journal record", "", "", f"{usual_us:.1f} µs", *nothing, _target(usual_us, 15)
        )
        table.add_row("… at p99.9", "", "", f"{worst_us:.1f} µs", *nothing, _target(worst_us, 100))
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
        console.print("kill -9 …")
        killed = kills.measure(100 if options.quick else 1_000, folder)
        spans = options.spans or (300_000 if options.quick else 10_000_000)
        console.print(f"a ledger of {spans:,} spans …")
        large = ledger.measure(spans, folder, console.print)
        sizes = (1_000, 10_000) if options.quick else (10_000, 100_000, 1_000_000)
        asked = analytics.measure(sizes, folder, console.print)
    console.print(table)
    console.print(_of_ledger(large))
    console.print(_of_questions(asked, sizes))
    console.print(
        f"Resident memory: {memory.early_mb:.0f} MB after {steps // 10:,} steps, "
        f"{memory.late_mb:.0f} MB after {steps:,} ({memory.grown_mb:+.1f} MB)."
    )
    console.print(
        f"{killed.kills:,} kills: {len(killed.lost)} of {killed.promised:,} spans lost, "
        f"{killed.doubled} of {killed.rows:,} rows doubled, {len(killed.wrong)} statuses wrong; "
        f"{killed.reads:,} reads meanwhile, {len(killed.reader_errors)} failed, "
        f"the slowest took {killed.worst_read_s * 1_000:.0f} ms."
    )
    console.print("SDK: what one plain span with ten attributes adds to a step.")


def _of_ledger(it: ledger.Measured) -> Table:
    table = Table(box=None, pad_edge=False)
    for at, title in enumerate((f"a ledger of {it.spans:,} spans", "raw", "ours", "target")):
        table.add_column(title, no_wrap=True, justify="right" if at else "left")
    rate, raw_rate = it.spans / it.ingest_s, it.spans / it.raw_ingest_s
    met = "[green]met[/]" if rate >= _SPANS_A_SECOND else "[red]under[/]"
    table.add_row(
        "spans ingested a second",
        f"{raw_rate:,.0f}",
        f"{rate:,.0f}",
        f"≥ {_SPANS_A_SECOND:,} {met}",
    )
    table.add_row(
        "bytes a span (raw: a record)",
        f"{it.raw_bytes_per_record:.0f}",
        f"{it.bytes_per_span:.0f}",
        _target(it.bytes_per_span, 150),
    )
    for name, raw_ms, ours_ms, most in (
        ("one engagement's tree, ms", it.raw_tree_ms, it.tree_ms, 50),
        ("the newest 50 engagements, ms", it.raw_newest_ms, it.newest_ms, 100),
        ("tokens by step and model, ms", it.raw_by_model_ms, it.by_model_ms, None),
    ):
        target = _target(ours_ms, most) if most else ""
        table.add_row(name, f"{raw_ms:.1f}", f"{ours_ms:.1f}", target)
    table.add_row("publishing it, s", "", f"{it.publish_s:.1f}")
    return table


def _of_questions(asked: Sequence[analytics.Question], sizes: Sequence[int]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("a question, ms", no_wrap=True)
    for size in sizes:
        table.add_column(f"of {size:,}", no_wrap=True, justify="right")
    table.add_column("bare", no_wrap=True, justify="right")
    table.add_column("× bare", no_wrap=True, justify="right")
    table.add_column("target", no_wrap=True, justify="right")
    largest = sizes[-1]
    for question in asked:
        ours, bare = question.ours_ms or {}, question.bare_ms or {}
        table.add_row(
            question.what,
            *(f"{ours[size]:.0f}" for size in sizes),
            f"{bare[largest]:.0f}" if bare else "",
            f"{ours[largest] / bare[largest]:.1f}" if bare else "",
            _target(ours[largest], question.most_ms) if question.most_ms else "",
        )
    return table


def _microseconds(value: float) -> str:
    return f"{value:.0f} µs" if value >= _WHOLE_FROM_US else f"{value:.1f} µs"


def _target(value: float, most: float) -> str:
    return f"≤ {most:.0f} {'[green]met[/]' if value <= most else '[red]over[/]'}"


if __name__ == "__main__":
    main()
