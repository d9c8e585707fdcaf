"""`spanflow journeys`: the engagements, one a line, with the way each took."""

from __future__ import annotations

from typing import Annotated, get_args

import typer

from spanflow.cli.asking import Asking, question

__all__ = ["show_journeys"]


@question
def show_journeys(
    asking: Asking,
    status: Annotated[
        str | None,
        typer.Option(
            help="Only these: active, completed, paused, abandoned, failed or interrupted."
        ),
    ] = None,
    reached: Annotated[
        str | None, typer.Option(metavar="STEP", help="Only those that reached this step.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many lines at most.")] = 20,
) -> None:
    """Show engagements with the way each took.

    Example: [bold]spanflow journeys --status abandoned --reached search[/bold]
    """
    from spanflow.model import EngagementStatus

    statuses = get_args(EngagementStatus)
    if status is not None and status not in statuses:
        message = f"{status!r} is none of {', '.join(statuses)}."
        raise typer.BadParameter(message)
    with asking.questions() as questions:
        # Of a million, a table needs no more than it shows, and one to know that there are more.
        newest = limit + 1 if asking.is_read_by_people else None
        found = questions.journeys(status=status, reached=reached, newest=newest, **asking.chosen)
    asking.tell(found, limit=limit)
