"""Where we are: the turn, the nested graph and the step that the running code belongs to.

A plain ``ContextVar`` holds it, because a key in the OpenTelemetry context does not survive other
instrumentors that attach contexts of their own. This module holds the place and decides nothing.
"""

from __future__ import annotations

import weakref
from contextvars import ContextVar
from typing import TYPE_CHECKING

from opentelemetry import context as otel_context
from opentelemetry import trace

from spanflow import semconv

if TYPE_CHECKING:
    from opentelemetry.context import Context

    from spanflow.capture.frame import Frame
    from spanflow.capture.step import Step
    from spanflow.capture.turn import Turn

__all__ = ["OFF", "Scope", "current", "find", "live", "nearest", "standing", "turns"]


class Scope:
    """A place in a turn: the frame (the turn itself or a nested graph) and the step, if any."""

    __slots__ = ("frame", "step", "turn")

    def __init__(self, turn: Turn | None, frame: Frame | None, step: Step | None) -> None:
        self.turn = turn
        self.frame = frame
        self.step = step


OFF = Scope(None, None, None)
"""The scope of a run that was left out: nothing inside it is captured."""

current: ContextVar[Scope | None] = ContextVar("spanflow_scope", default=None)

turns: weakref.WeakValueDictionary[str, Turn] = weakref.WeakValueDictionary()
"""The turns that are open now, by span id in hex; weak, so that nothing can pile up here."""


def find(turn_id: object, step_id: object) -> Turn | Step | None:
    """Return the open step of these ids, else the open turn, else None."""
    turn = turns.get(turn_id) if isinstance(turn_id, str) else None
    if turn is None or not isinstance(step_id, str):
        return turn
    return turn.steps.get(step_id, turn)


def nearest(scope: Scope, fallback: Context) -> Context:
    """Return the context that work of `scope` starts in: the ambient one, else `fallback`.

    The ambient span is only believed where it is going on inside the same step: a span of the
    user's that our processor saw start there, or a call of ours in its fence.
    """
    ambient = otel_context.get_current()
    span = trace.get_current_span(ambient)
    attributes = getattr(span, "attributes", None)
    if (
        attributes
        and scope.step is not None
        and span.is_recording()
        and attributes.get(semconv.STEP_ID) == scope.step.span_id
    ):
        return ambient
    return fallback


def live() -> Scope | None:
    """Return the current scope if its turn has not ended."""
    scope = current.get()
    if scope is None or scope.turn is None or scope.turn.ended:
        return None
    return scope


def standing() -> Scope | None:
    """Return the scope that a call begun here belongs to, or None outside every turn.

    A task that outlived its turn is part of it only in what it does in that turn's trace.
    """
    scope = current.get()
    if scope is None or scope.turn is None:
        return None
    if scope.turn.ended:
        around = trace.get_current_span().get_span_context()
        if around.is_valid and f"{around.trace_id:032x}" != scope.turn.trace_id:
            return None
    return scope
