"""`spanflow paths` and `spanflow drop-offs`: which ways were taken, and where they broke off."""

from __future__ import annotations

from typing import Annotated

import typer

from spanflow.cli.asking import Asking, question

__all__ = ["show_drop_offs", "show_paths"]


@question
def show_paths(
    asking: Asking,
    depth: Annotated[
        int, typer.Option(min=1, help="How many steps of a path are told apart.")
    ] = 20,
    nested: Annotated[
        bool, typer.Option("--nested", help="Show the innermost steps, not those at the top.")
    ] = False,
    limit: Annotated[int, typer.Option(min=1, help="How many lines at most.")] = 20,
) -> None:
    """Show the ways that engagements took, the most frequent first.

    Example: [bold]spanflow paths --since 7d --svg paths.svg[/bold]
    """
    with asking.questions() as questions:
        found = questions.paths(depth=depth, nested=nested, **asking.chosen)
    asking.tell(found, limit=limit)


@question
def show_drop_offs(asking: Asking) -> None:
    """Show where engagements were abandoned, failed or died, the most frequent first.

    Example: [bold]spanflow drop-offs --since 7d[/bold]
    """
    with asking.questions() as questions:
        found = questions.drop_offs(**asking.chosen)
    asking.tell(found)
