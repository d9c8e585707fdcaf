"""`spanflow ls`: the newest engagements, one a line."""

from __future__ import annotations

from typing import Annotated

import typer

from spanflow.cli import terminal
from spanflow.cli.terminal import JsonOption, LedgerOption

__all__ = ["list_engagements"]


def list_engagements(
    ledger: LedgerOption = None,
    status: Annotated[
        str | None,
        typer.Option(
            help="Only these: active, completed, paused, abandoned, failed or interrupted."
        ),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """List the newest engagements.

    Example: [bold]spanflow ls --status abandoned --limit 5[/bold]
    """
    from typing import get_args

    from spanflow.model import EngagementStatus
    from spanflow.query.journeys import connect

    statuses = get_args(EngagementStatus)
    if status is not None and status not in statuses:
        message = f"{status!r} is none of {', '.join(statuses)}."
        raise typer.BadParameter(message)
    with connect(terminal.ledger_path(ledger)) as opened:
        found = opened.engagements(status=status, limit=limit)
    if as_json:
        terminal.print_json([one.model_dump(mode="json", exclude={"history"}) for one in found])
        return
    numbers = ("turns", "steps", "tokens", "cost")
    table = terminal.table(
        "id", "name", "status", *numbers, "started UTC", right=numbers, cut="name"
    )
    for one in found:
        table.add_row(
            terminal.text(terminal.short_id(one.engagement_id), "bold"),
            terminal.text(one.name),
            terminal.status_text(one.status),
            terminal.count(one.turns),
            terminal.count(one.steps),
            terminal.count(one.usage.total_tokens),
            terminal.cost(one.usage.cost_usd),
            terminal.when(one.started_at),
        )
    console = terminal.console()
    if found:
        console.print(table)
    else:
        console.print("No engagements." if status is None else f"No engagements are {status}.")
