"""Where we are: the turn, the nested graph and the step that the running code belongs to.

A plain ``ContextVar`` holds it, because a key in the OpenTelemetry context does not survive other
instrumentors that attach contexts of their own. This module holds the place and decides nothing.
"""

from __future__ import annotations

import weakref
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from spanflow.capture.frame import Frame
    from spanflow.capture.step import Step
    from spanflow.capture.turn import Turn

__all__ = ["OFF", "Scope", "current", "live", "places"]


class Scope:
    """A place in a turn: the frame (the turn itself or a nested graph) and the step, if any."""

    __slots__ = ("__weakref__", "frame", "step", "turn")

    def __init__(self, turn: Turn | None, frame: Frame | None, step: Step | None) -> None:
        self.turn = turn
        self.frame = frame
        self.step = step


OFF = Scope(None, None, None)
"""The scope of a run that was left out: nothing inside it is captured."""

current: ContextVar[Scope | None] = ContextVar("spanflow_scope", default=None)

places: weakref.WeakValueDictionary[str, Scope] = weakref.WeakValueDictionary()
"""Scopes of the turns and steps that are open now, by span id in hex.

Weak, so that nothing can pile up here.
"""


def live() -> Scope | None:
    """Return the current scope if its turn has not ended."""
    scope = current.get()
    if scope is None or scope.turn is None or scope.turn.ended:
        return None
    return scope
