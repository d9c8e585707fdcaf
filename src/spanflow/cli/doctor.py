"""`spanflow doctor`: how the ledger is, and what to do about it. It changes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from spanflow.cli import terminal
from spanflow.cli.terminal import JsonOption, LedgerOption

if TYPE_CHECKING:
    from collections.abc import Iterator

    from spanflow.ledger.checkup import Checkup

__all__ = ["examine_ledger"]

_UNITS = ("B", "kB", "MB", "GB", "TB")
_KILO = 1_000.0


def examine_ledger(ledger: LedgerOption = None, as_json: JsonOption = False) -> None:
    """Say how the ledger is, and what to do about it; change nothing.

    Ends with 0 where nothing needs doing, else with 1.

    Example: [bold]spanflow doctor --ledger traces.duckdb[/bold]
    """
    from dataclasses import asdict

    from rich.padding import Padding

    from spanflow.ledger.checkup import check_up

    found = check_up(terminal.ledger_path(ledger))
    if as_json:
        terminal.print_json({"healthy": not found.problems} | asdict(found))
    else:
        console = terminal.console()
        table = terminal.table("", "", cut="")
        table.show_header = False
        table.columns[1].no_wrap = False
        table.columns[1].overflow = "fold"
        for name, value in _lines(found):
            table.add_row(terminal.text(name, "dim"), terminal.plain(value))
        console.print(table)
        for problem in found.problems:
            console.print(f"✗ {terminal.plain(problem.what)}.", style="red")
            console.print(Padding(f"{terminal.plain(problem.do)}.", (0, 0, 0, 2)))
        if not found.problems:
            console.print("✓ Nothing needs doing.", style="green")
    if found.problems:
        raise typer.Exit(1)


def _lines(found: Checkup) -> Iterator[tuple[str, str]]:
    told = found.versions
    yield "versions", ", ".join(f"{name} {told[name]}" for name in ("spanflow", "duckdb", "python"))
    yield "schema", told["schema"] or terminal.UNKNOWN
    yield "ledger", found.ledger
    yield "published", _file(found.published, found.published_bytes, found.published_age_s)
    yield "store", _file(found.store, found.store_bytes, None)
    yield "last ingest", _moment(found)
    yield "ingesting now", f"process {found.ingesting_pid}" if found.ingesting_pid else "nobody"
    waiting = f"{found.waiting_segments:,} segments, {_size(found.waiting_bytes)}"
    if found.oldest_waiting_s is not None:
        waiting += f", the oldest {_ago(found.oldest_waiting_s)}"
    yield "waiting", waiting
    living = ", ".join(map(str, found.living))
    yield "writers", f"{len(found.living)} alive{f' ({living})' if living else ''}"
    yield "", f"{found.gone} gone and not yet noted"
    yield "lost records", terminal.count(found.lost_records)
    yield "refused lines", terminal.count(found.refused_records)
    yield "bad segments", terminal.count(len(found.bad_segments))
    yield "moved aside", terminal.count(len(found.set_aside))
    free = terminal.UNKNOWN if found.free_bytes is None else _size(found.free_bytes)
    yield "disk", f"{found.file_system or 'of unknown kind'}, {free} free"


def _file(state: str, size: int | None, age_s: float | None) -> str:
    parts = [state]
    if size is not None:
        parts.append(_size(size))
    if age_s is not None:
        parts.append(f"written {_ago(age_s)}")
    return ", ".join(parts)


def _moment(found: Checkup) -> str:
    return terminal.UNKNOWN if found.ingested_at is None else f"{found.ingested_at:%F %T} UTC"


def _ago(seconds: float) -> str:
    return f"{terminal.duration(seconds * _KILO)} ago"


def _size(size: float) -> str:
    for unit in _UNITS[:-1]:
        if size < _KILO:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= _KILO
    return f"{size:.1f} {_UNITS[-1]}"
