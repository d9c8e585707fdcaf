"""`spanflow export`: the ledger's views as Parquet files."""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from spanflow.cli import terminal
from spanflow.cli.terminal import JsonOption, LedgerOption

__all__ = ["export_ledger"]

_DAY = ["%Y-%m-%d"]


def export_ledger(
    parquet: Annotated[
        Path,
        typer.Option(
            "--parquet", metavar="DIR", help="The folder to write to; made where missing."
        ),
    ],
    ledger: LedgerOption = None,
    since: Annotated[
        datetime | None, typer.Option(formats=_DAY, help="The first day to write (UTC).")
    ] = None,
    until: Annotated[
        datetime | None, typer.Option(formats=_DAY, help="The last day to write (UTC).")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write the views as Parquet, a folder a view and a day.

    Days that are written again are replaced, others are left as they are.

    Example: [bold]spanflow export --parquet lake --since 2026-11-01[/bold]
    """
    from rich.console import Console

    from spanflow.query.export import export_parquet

    path = terminal.ledger_path(ledger)
    with Console(stderr=True).status("…") as status:
        written = export_parquet(
            path,
            parquet,
            since=since.date() if since else None,
            until=until.date() if until else None,
            progress=status.update,
        )
    if as_json:
        views = {one.view: {"rows": one.rows, "files": one.files} for one in written}
        terminal.print_json({"directory": parquet, "views": views})
        return
    if not written:
        sys.stdout.write(f"{path} holds nothing yet; nothing was written.\n")
        return
    table = terminal.table("view", "rows", "files", right=("rows", "files"))
    for one in written:
        table.add_row(one.view, terminal.count(one.rows), terminal.count(one.files))
    terminal.console().print(table)
    sys.stdout.write(
        f"Read it: FROM read_parquet('{terminal.plain(parquet)}/turns/**/*.parquet')\n"
    )
