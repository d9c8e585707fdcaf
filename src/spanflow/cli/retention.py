"""`spanflow purge` and `spanflow forget`: erasing engagements for good."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from spanflow.cli import terminal
from spanflow.cli.terminal import JsonOption, LedgerOption

if TYPE_CHECKING:
    from collections.abc import Sized
    from pathlib import Path

    from spanflow.ledger.retention import Erased

__all__ = ["forget_engagements", "purge_engagements"]

DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Only tell what would be erased.")]

_SHOWN = 10


def purge_engagements(
    older_than: Annotated[
        str, typer.Option(metavar="WINDOW", help="How old is too old: 90d, 36h, 45m.")
    ],
    dry_run: DryRunOption = False,
    ledger: LedgerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Erase engagements that have ended and were last seen longer ago than a window.

    Active and paused ones stay. Nothing of the others is left in any file.

    Example: [bold]spanflow purge --older-than 90d --dry-run[/bold]
    """
    from spanflow.ledger.retention import purge

    _tell(purge(terminal.ledger_path(ledger), older_than, dry_run=dry_run), as_json=as_json)


def forget_engagements(  # noqa: PLR0913, PLR0917 - a command's options
    user: Annotated[
        str | None, typer.Option(metavar="ID", help="Everything of this user, as recorded.")
    ] = None,
    engagement: Annotated[
        str | None,
        typer.Option(metavar="ID", help="This engagement: its id, or its beginning or end."),
    ] = None,
    dry_run: DryRunOption = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    ledger: LedgerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Erase one user's engagements, or one engagement, whatever their status.

    Example: [bold]spanflow forget --user u-42[/bold]
    """
    from spanflow.ledger.retention import forget

    if (user is None) == (engagement is None):
        message = "Name either --user or --engagement."
        raise typer.BadParameter(message)
    path = terminal.ledger_path(ledger)
    whole = None if engagement is None else _whole_id(path, engagement)
    if sys.stdin.isatty() and not (yes or dry_run):
        found = forget(path, user_id=user, engagement_id=whole, dry_run=True)
        whose = f"user {user}" if user is not None else f"engagement {whole}"
        typer.confirm(
            f"Erase {len(found.engagements):,} engagements ({found.spans:,} spans) of "
            f"{terminal.plain(whose)} for good?",
            abort=True,
            err=True,
        )
    _tell(forget(path, user_id=user, engagement_id=whole, dry_run=dry_run), as_json=as_json)


def _whole_id(path: Path, part: str) -> str:
    from spanflow.query.journeys import connect

    with connect(path) as opened:
        return opened.resolve(part)


def _tell(erased: Erased, *, as_json: bool) -> None:
    if as_json:
        terminal.print_json(asdict(erased))
        return
    console = terminal.console()
    verb = "would go" if erased.dry_run else "erased"
    console.print(f"{_several(erased.engagements, 'engagement')}, {erased.spans:,} spans {verb}.")
    for engagement_id in erased.engagements[:_SHOWN]:
        console.print(terminal.text(f"  {engagement_id}"))
    if len(erased.engagements) > _SHOWN:
        more = len(erased.engagements) - _SHOWN
        console.print(terminal.text(f"  and {more:,} more; --json names them all", "dim"))
    if erased.files:
        console.print(terminal.text(f"Files {verb}: {', '.join(erased.files)}"), soft_wrap=True)
    if not erased.dry_run:
        console.print(
            f"The ledger had {_size(erased.bytes_before)} and has {_size(erased.bytes_after)}."
        )
    if erased.open_segments:
        console.print(
            f"Living processes still write {_several(range(erased.open_segments), 'segment')} that "
            "nobody can look into yet. What they hold of these engagements is dropped when it is "
            "ingested; to be sure of a user's newest, run this again when they have ended.",
            style="yellow",
        )


def _several(things: Sized, name: str) -> str:
    return f"{len(things):,} {name}{'' if len(things) == 1 else 's'}"


def _size(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"
