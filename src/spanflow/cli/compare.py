"""`spanflow compare`: the numbers of two sets of engagements beside each other."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, cast

import typer

from spanflow.cli.asking import Asking, conditions, moment, question

if TYPE_CHECKING:
    from datetime import datetime

    from spanflow.query.conditions import Condition

__all__ = ["compare_engagements"]

_TIMES = ("since", "until")
_TEXTS = ("conversation_id", "graph_version", "name", "service_name", "session_id", "user_id")
# A comma that is not inside of "…".
_COMMA = re.compile(r',(?=(?:[^"\\]|\\.|"(?:[^"\\]|\\.)*")*$)')

_Filter = Annotated[
    str,
    typer.Argument(
        metavar="KEY=VALUE[,…]",
        help="What must hold: a key of the metadata, or name, user_id, session_id, "
        "conversation_id, service_name, graph_version, since, until.",
        show_default=False,
    ),
]


@question
def compare_engagements(asking: Asking, a: _Filter, b: _Filter) -> None:
    """Compare two sets of engagements: how they end, how long they take, what they cost.

    Example: [bold]spanflow compare variant=a,tier=pro variant=b,tier=pro[/bold] or [bold]spanflow
    compare until=2026-11-01 since=2026-11-01[/bold]
    """
    with asking.questions() as questions:
        found = questions.compare(_filter(a), _filter(b), **asking.chosen)
    asking.tell(found)


def _filter(text: str) -> dict[str, Condition | datetime]:
    read = conditions(_COMMA.split(text), named=(*_TEXTS, *_TIMES))
    return {
        key: moment(cast("str", value)) if key in _TIMES else value for key, value in read.items()
    }
