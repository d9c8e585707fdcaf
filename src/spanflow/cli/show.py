"""`spanflow show`: one engagement as a tree of turns, steps, calls and events."""

from __future__ import annotations

from typing import Annotated

import typer

from spanflow.cli import terminal
from spanflow.cli.terminal import JsonOption, LedgerOption

__all__ = ["show_engagement"]


def show_engagement(
    engagement_id: Annotated[
        str,
        typer.Argument(
            metavar="ID",
            help="The engagement's id, or as much of its beginning or end as no other has.",
        ),
    ],
    ledger: LedgerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show one engagement: its turns, their steps, and what happened in them.

    Example: [bold]spanflow show 4f1c09d2ab7e[/bold]
    """
    from spanflow.query.journeys import connect

    with connect(terminal.ledger_path(ledger)) as opened:
        found = opened.engagement(engagement_id)
    if as_json:
        terminal.print_json(found.model_dump(mode="json"))
        return
    from spanflow.cli.tree import tree

    terminal.console().print(tree(found))
