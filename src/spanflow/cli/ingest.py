"""`spanflow ingest`: brings a ledger up to date, once or for ever, and takes in files of others.

OTLP files go through a journal of this command's own, other ledgers through a merge; so a file may
be given twice, and a command that was killed may be run again.
"""

from __future__ import annotations

import os
import random
import select
import signal
import sys
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spanflow.cli import terminal
from spanflow.cli.terminal import JsonOption, LedgerOption
from spanflow.errors import LedgerError, LedgerNotFoundError, SpanflowError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from rich.progress import Progress

    from spanflow.ledger.gather import IngestReport

    Advance = Callable[[int, int], None]

__all__ = ["ingest_records"]

_WAITS_S = 60.0
_INTERVAL_S = 2.0
_JITTER = 0.25
_LINES_SHOWN = 20
_DUCKDB = b"DUCK"
_DUCKDB_AT = 8


@dataclass(slots=True)
class _Taken:
    """What became of one file; `failed` says why it could not be used at all."""

    file: str
    kind: str
    spans: int = 0
    records: int = 0
    refused: int = 0
    lines: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    failed: str | None = None


def ingest_records(
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[FILE]...",
            help="OTLP JSON lines as the Collector's `file` exporter writes them, or other "
            "ledgers. Without any, what waits in the journal.",
        ),
    ] = None,
    ledger: LedgerOption = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Go on until stopped, every few seconds.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Bring the ledger up to date, and take in spans from files and from other ledgers.

    A file may be given again: what is known already changes nothing.

    Example: [bold]spanflow ingest spans.json other-host.duckdb[/bold], or beside programs with
    SPANFLOW_INGEST=off: [bold]spanflow ingest --watch[/bold]
    """
    path = terminal.ledger_path(ledger)
    if watch and files:
        message = "--watch takes no files: it waits for what programs write."
        raise typer.BadParameter(message)
    if watch:
        _watch(path, as_json=as_json)
    elif files:
        _take_files(path, files, as_json=as_json)
    else:
        _ingest_once(path, as_json=as_json)


def _ingest_once(path: Path, *, as_json: bool) -> None:
    from spanflow.ledger.places import Places

    if not path.exists() and not Places.of(path).directory.is_dir():
        message = f"There is no ledger at {path}. Name one with --ledger, or set SPANFLOW_LEDGER."
        raise LedgerNotFoundError(message)
    report = _bring_up_to_date(path)
    if as_json:
        terminal.print_json(asdict(report))
    else:
        sys.stdout.write(f"{_said(report)}\n")


def _bring_up_to_date(path: Path) -> IngestReport:
    from spanflow.ledger.ingest import ingest
    from spanflow.ledger.publish import publish
    from spanflow.settings import load

    try:
        report = ingest(path, wait_s=_WAITS_S, idle_after=load().told_idle_after)
        if report is None:
            message = f"Another process has been ingesting {path} for a minute. Try again."
            raise LedgerError(message)
        publish(path, force=True, wait_s=_WAITS_S)
    except OSError as error:
        message = f"{path} cannot be brought up to date: {error}"
        raise LedgerError(message) from None
    return report


def _said(report: IngestReport) -> str:
    said = (
        f"{terminal.count(report.records)} records of {terminal.count(report.segments)} segments, "
        f"{terminal.count(report.turns_touched)} turns touched"
    )
    if report.refused:
        said += f", {terminal.count(report.refused)} lines refused"
    if report.quarantined:
        said += f", {terminal.count(report.quarantined)} segments set aside"
    return said


def _watch(path: Path, *, as_json: bool) -> None:
    from spanflow.ledger.ingest import ingest
    from spanflow.ledger.publish import publish
    from spanflow.settings import load

    stop = _stop_signal()
    complaint: str | None = None
    begun = stopping = False
    while not stopping:
        pause_s = _INTERVAL_S * random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311 - no secret
        stopping = begun and bool(select.select([stop], [], [], pause_s)[0])
        wait_s = _INTERVAL_S if stopping else 0.0
        try:
            report = ingest(path, wait_s=wait_s, idle_after=load().told_idle_after)
            publish(path, force=stopping, wait_s=wait_s)
        except (LedgerError, OSError) as error:
            if not begun:
                raise LedgerError(str(error)) from None
            if str(error) != complaint:
                complaint = str(error)
                sys.stderr.write(f"spanflow: {complaint}\n")
            continue
        begun, complaint = True, None
        if report is not None and (report.segments or report.quarantined):
            _tell(report, as_json=as_json)


def _stop_signal() -> int:
    """Return a descriptor that can be read once somebody wants this program to end."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)

    def note(_number: int, _frame: object) -> None:
        os.write(writer, b".")

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, note)
    return reader


def _tell(report: IngestReport, *, as_json: bool) -> None:
    if as_json:
        terminal.print_json_line(asdict(report))
    else:
        sys.stdout.write(f"{_said(report)}\n")
        sys.stdout.flush()


def _take_files(path: Path, files: list[Path], *, as_json: bool) -> None:
    taken: list[_Taken] = []
    with _progress(quiet=as_json) as progress:
        for file in files:
            advance = _advancing(progress, terminal.plain(file.name))
            taken.append(_take(path, file, advance))
    report = _bring_up_to_date(path)
    if as_json:
        terminal.print_json({"files": [asdict(one) for one in taken], "ingest": asdict(report)})
    else:
        _show(taken)
    if any(one.failed for one in taken):
        raise typer.Exit(1)


def _take(path: Path, file: Path, advance: Advance) -> _Taken:
    taken = _Taken(str(file), "otlp")
    try:
        with file.open("rb") as opened:
            if opened.read(_DUCKDB_AT + len(_DUCKDB))[_DUCKDB_AT:] == _DUCKDB:
                taken.kind = "ledger"
        if taken.kind == "ledger":
            from spanflow.ledger.joining import join

            taken.spans = taken.records = join(path, file, progress=advance).spans
        else:
            _take_otlp(path, file, taken, advance)
    except SpanflowError as error:
        taken.failed = str(error)
    except OSError as error:
        taken.failed = f"It cannot be read: {error.strerror or error}."
    return taken


def _take_otlp(path: Path, file: Path, taken: _Taken, advance: Advance) -> None:
    from spanflow.capture.otlp_files import read_file
    from spanflow.ledger.journal import Journal
    from spanflow.settings import load

    size, limit = file.stat().st_size, load().payload_bytes
    with closing(Journal(path)) as journal:
        for line in read_file(file, limit):
            taken.spans += line.told.spans
            taken.refused += len(line.told.refused)
            for reason in line.told.refused[: _LINES_SHOWN - len(taken.lines)]:
                taken.lines.append({"line": line.number, "reason": reason})
            for record in line.told.records:
                if not journal.append(record):
                    message = (
                        f"Records of {file} could not be written beside {path}. "
                        "Make room there and run it again."
                    )
                    raise LedgerError(message)
                taken.records += 1
            advance(min(line.position, size), size)
    if taken.refused and not taken.spans:
        taken.failed = "Nothing in it is OTLP JSON."


def _show(taken: list[_Taken]) -> None:
    numbers = ("spans", "records", "refused")
    table = terminal.table("file", "kind", *numbers, right=numbers, cut="file")
    for one in taken:
        table.add_row(
            terminal.text(one.file),
            one.kind,
            *(terminal.count(getattr(one, name)) for name in numbers),
        )
    terminal.console().print(table)
    sys.stdout.flush()
    for one in taken:
        name = terminal.plain(one.file)
        for line in one.lines:
            sys.stderr.write(f"{name} line {line['line']}: {terminal.plain(line['reason'])}\n")
        if one.refused > len(one.lines):
            sys.stderr.write(f"{name}: … and {one.refused - len(one.lines)} more\n")
        if one.failed is not None:
            sys.stderr.write(f"spanflow: {name}: {terminal.plain(one.failed)}\n")


@contextmanager
def _progress(*, quiet: bool) -> Generator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    with Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=quiet or not console.is_terminal,
    ) as progress:
        yield progress


def _advancing(progress: Progress, name: str) -> Advance:
    task = progress.add_task(name, total=None)

    def advance(done: int, total: int) -> None:
        progress.update(task, completed=done, total=total)

    return advance
