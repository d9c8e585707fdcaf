"""`spanflow audit`: the chained log of digests, written and checked."""

from __future__ import annotations

import contextlib
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spanflow.cli import terminal
from spanflow.cli.terminal import JsonOption, LedgerOption

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from spanflow.ledger.audit import Audited, Checked

__all__ = ["audit_engagements"]

_SHOWN = 20
_STYLES = {
    "same": "green",
    "extended": "cyan",
    "erased": "dim",
    "altered": "bold red",
    "missing": "bold red",
}


def audit_engagements(  # noqa: PLR0913, PLR0917 - a command's options
    verify: Annotated[
        bool, typer.Option("--verify", help="Check the log, and the ledger against it.")
    ] = False,
    head: Annotated[
        str | None,
        typer.Option(
            metavar="HASH", help="With --verify: a hash that --anchor printed and you kept."
        ),
    ] = None,
    anchor: Annotated[
        bool, typer.Option("--anchor", help="Print the last line's hash, to keep it elsewhere.")
    ] = False,
    log: Annotated[
        Path | None,
        typer.Option(help="The log.", show_default="LEDGER.audit.ndjson"),
    ] = None,
    ledger: LedgerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write the digests of ended engagements into a log that shows every later change.

    With --verify, exit with 1 where the log is broken or an engagement was altered or is missing.

    Example: [bold]spanflow audit --verify --head 9f86d081884c…[/bold]
    """
    from spanflow.ledger.audit import default_log, head_of
    from spanflow.query.proof import check_log, write_log

    if anchor and verify:
        message = "Give --anchor or --verify."
        raise typer.BadParameter(message)
    if head is not None and not verify:
        message = "--head goes with --verify."
        raise typer.BadParameter(message)
    path = terminal.ledger_path(ledger)
    file = log or default_log(path)
    if anchor:
        found = head_of(file)
        terminal.print_json({"head": found}) if as_json else sys.stdout.write(f"{found}\n")
        return
    if verify:
        with _progress("Verifying") as tell:
            checked = check_log(path, file, head, tell)
        _tell_checked(checked, as_json=as_json)
    else:
        with _progress("Auditing") as tell:
            written = write_log(path, file, tell)
        _tell_written(written, as_json=as_json)


def _tell_written(audited: Audited, *, as_json: bool) -> None:
    if as_json:
        terminal.print_json(asdict(audited))
        return
    console = terminal.console()
    if audited.mended:
        console.print("The log ended in half a line, as a crash leaves it; it was taken off.")
    lines = f"{audited.written:,} line{'' if audited.written == 1 else 's'}"
    console.print(f"{lines} added; the log knows {audited.engagements:,} engagements.")
    for name, ids in (("altered", audited.altered), ("extended", audited.extended)):
        _list(name, list(ids))
    console.print(terminal.text(f"head {audited.head}", "dim"), soft_wrap=True)


def _tell_checked(checked: Checked, *, as_json: bool) -> None:
    if as_json:
        terminal.print_json(asdict(checked) | {"is_clean": checked.is_clean})
    else:
        console = terminal.console()
        for sentence in checked.broken:
            console.print(terminal.text(sentence, "bold red"), soft_wrap=True)
        if checked.torn:
            console.print(
                "The log ends in half a line, as a crash leaves it: the next audit takes it off.",
                style="yellow",
            )
        counts = Counter(checked.engagements.values())
        told = ", ".join(f"{count:,} {name}" for name, count in counts.most_common())
        console.print(f"{checked.lines:,} lines; {told or 'no engagements'}.")
        for name in ("altered", "missing", "extended"):
            _list(name, [id_ for id_, found in checked.engagements.items() if found == name])
        if checked.unlogged:
            console.print(
                f"{checked.unlogged:,} ended since the last audit: run `spanflow audit`.",
                style="dim",
            )
        console.print(terminal.text(f"head {checked.head}", "dim"), soft_wrap=True)
    if not checked.is_clean:
        raise typer.Exit(1)


def _list(name: str, ids: list[str]) -> None:
    console = terminal.console()
    for engagement_id in ids[:_SHOWN]:
        console.print(terminal.text(f"{name:<9} {engagement_id}", _STYLES[name]))
    if len(ids) > _SHOWN:
        console.print(terminal.text(f"{name:<9} and {len(ids) - _SHOWN:,} more", "dim"))


@contextlib.contextmanager
def _progress(name: str) -> Generator[Callable[[int, int], None]]:
    """Show a bar on a terminal while work goes on; elsewhere nothing."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(name, total=None)

        def tell(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        yield tell
