"""`spanflow usage` and `spanflow steps`: tokens and cost by anything, the times of steps."""

from __future__ import annotations

from typing import Annotated

import typer

from spanflow.cli.asking import Asking, question

__all__ = ["show_steps", "show_usage"]


@question
def show_usage(
    asking: Asking,
    by: Annotated[
        str,
        typer.Option(
            help="model, provider, operation, step, engagement, user_id, session_id, agent, "
            "caller, service, status, hour, day, week, month, or a key of the metadata."
        ),
    ] = "model",
    split: Annotated[str | None, typer.Option(help="Another of these, for a line each.")] = None,
) -> None:
    """Show tokens and cost of the calls of models by what they have in common.

    --since and --until are about the calls. Calls outside engagements are in it unless --name,
    --user or --where is given.

    Example: [bold]spanflow usage --by day --split model --png usage.png[/bold]
    """
    with asking.questions() as questions:
        found = questions.usage_by(by, split=split, **asking.chosen)
    asking.tell(found)


@question
def show_steps(asking: Asking) -> None:
    """Show how long steps take, how often they fail, and what they cost.

    Example: [bold]spanflow steps --since 24h --png steps.png[/bold]
    """
    with asking.questions() as questions:
        found = questions.step_stats(**asking.chosen)
    asking.tell(found)
