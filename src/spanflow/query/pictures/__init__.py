"""Pictures of answers: which question is drawn how."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from spanflow.errors import LedgerError
from spanflow.query.pictures.canvas import Picture, style
from spanflow.query.pictures.compared import draw_compared
from spanflow.query.pictures.drop_offs import draw_drop_offs
from spanflow.query.pictures.funnel import draw_funnel
from spanflow.query.pictures.paths import draw_journeys, draw_paths
from spanflow.query.pictures.steps import draw_steps
from spanflow.query.pictures.usage import draw_usage

if TYPE_CHECKING:
    from collections.abc import Callable

    from spanflow.query.answers import Answer

__all__ = ["DRAWN", "Picture", "draw"]

DRAWN: dict[str, Callable[[Any], Picture]] = {
    "funnel": draw_funnel,
    "journeys": draw_journeys,
    "paths": draw_paths,
    "drop_offs": draw_drop_offs,
    "step_stats": draw_steps,
    "usage_by": draw_usage,
    "compare": draw_compared,
}
"""What draws the answer to which question."""


def draw(answer: Answer[Any]) -> Picture:
    """Draw an answer.

    Raises:
        LedgerError: There is no picture of this question, or matplotlib is not installed.
    """
    drawer = DRAWN.get(answer.question)
    if drawer is None:
        message = f"There is no picture of {answer.question}; there is one of {', '.join(DRAWN)}."
        raise LedgerError(message)
    with style():
        return drawer(answer)
