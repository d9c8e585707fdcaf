"""`spanflow funnel`: how many came to each step, and what became of them there."""

from __future__ import annotations

import shlex
from difflib import get_close_matches
from typing import TYPE_CHECKING, Annotated

import typer

from spanflow.cli.asking import Asking, duration, note, question
from spanflow.errors import LedgerError

if TYPE_CHECKING:
    from spanflow.query.answers import Funnel
    from spanflow.query.questions import Questions

__all__ = ["show_funnel"]

_STEPS_NAMED = 12


@question
def show_funnel(
    asking: Asking,
    steps: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="STEP…",
            help="Paths of steps, or last parts that only one has; without any, the path that most "
            "completed engagements took.",
            show_default=False,
        ),
    ] = None,
    ordered: Annotated[
        bool, typer.Option("--ordered", help="Only those that took the steps in this order.")
    ] = False,
    within: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Only those that did so in this time: 90s, 1h, 7d."),
    ] = None,
) -> None:
    """Show how many engagements reached each step, and what became of them there.

    Example: [bold]spanflow funnel intake search submitted --since 7d --png funnel.png[/bold]
    """
    window = None if within is None else duration(within)
    with asking.questions() as questions:
        chosen = steps or _usual_path(questions, asking)
        found = questions.funnel(chosen, ordered=ordered, within=window, **asking.chosen)
        if any(row.reached == 0 for row in found):
            _hint(questions, found)
    asking.tell(found)


def _usual_path(questions: Questions, asking: Asking) -> list[str]:
    taken = questions.paths(**asking.chosen)
    usual = max(taken, key=lambda row: (row.completed, row.engagements, row.path), default=None)
    # A loop comes to a step again.
    path = [step for step in dict.fromkeys(usual.path) if step != "…"] if usual else []
    if not path:
        message = "No steps were recorded, or none of what was asked for. `spanflow ls` lists all."
        raise LedgerError(message)
    note(f"The usual path: spanflow funnel {shlex.join(path)}")
    return path


def _hint(questions: Questions, found: Funnel) -> None:
    """Tell of steps that nobody ever reached what they could be called."""
    known = [row.step for row in questions.step_stats()]
    called = {step: step for step in known}
    called |= {step.rpartition("/")[2]: step for step in known}
    for row in found:
        if row.reached or row.step in called:
            continue
        near = get_close_matches(row.step, called, n=1)
        said = f"Nobody ever reached {row.step!r}."
        if near:
            said += f" Did you mean {called[near[0]]}?"
        elif known:
            more = ", …" if len(known) > _STEPS_NAMED else ""
            said += f" Steps there are: {', '.join(known[:_STEPS_NAMED])}{more}"
        note(said)
