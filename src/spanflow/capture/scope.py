"""Where we are: the turn, the nested graph and the step that the running code belongs to.

A plain ``ContextVar`` holds it, because a key in the OpenTelemetry context does not survive other
instrumentors that attach contexts of their own. Such a key comes second: a thread may have been
given that context alone. This module holds the place and decides nothing.
"""

from __future__ import annotations

import weakref
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import create_key, get_value, set_value

from spanflow import semconv
from spanflow.capture import agents

if TYPE_CHECKING:
    from opentelemetry.context import Context

    from spanflow.capture.frame import Frame
    from spanflow.capture.step import Step
    from spanflow.capture.turn import Turn

__all__ = [
    "OFF",
    "OPEN_CALL",
    "Scope",
    "context_in",
    "current",
    "find",
    "hand_on",
    "handed_on",
    "here",
    "is_deeper",
    "is_place",
    "live",
    "nearest",
    "standing",
    "turns",
    "within",
]

OPEN_CALL = create_key("spanflow-call")
"""Under which the OpenTelemetry context has the innermost call of ours that is going on."""

_HANDED_ON = create_key("spanflow-scope")


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

_given: ContextVar[tuple[Scope, Context] | None] = ContextVar("spanflow_given", default=None)
"""What a thread was given as it was started."""

turns: weakref.WeakValueDictionary[str, Turn] = weakref.WeakValueDictionary()
"""The turns that are open now, by span id in hex; weak, so that nothing can pile up here."""


def find(turn_id: object, step_id: object) -> Turn | Step | None:
    """Return the open step of these ids, else the open turn, else None."""
    turn = turns.get(turn_id) if isinstance(turn_id, str) else None
    if turn is None or not isinstance(step_id, str):
        return turn
    return turn.steps.get(step_id, turn)


def hand_on(scope: Scope, context: Context) -> None:
    """Let the thread that begins here stand in `scope` until that turn ends.

    Args:
        scope: Where it was started.
        context: The context that it was started in; it is not put in place.
    """
    current.set(scope)
    _given.set((scope, context))


def nearest(scope: Scope, fallback: Context) -> Context:
    """Return the context that work of `scope` starts in: the ambient one, else `fallback`.

    The ambient span is only believed where it is going on inside the same step (or, outside all
    steps, in the same turn): a span of the user's that our processor saw start there, a call of
    ours in its fence, an agent. A thread has the context that it was started in for one.
    """
    ambient = otel_context.get_current()
    if _is_going_on(ambient, scope):
        return ambient
    given = _given.get()
    return given[1] if given is not None and _is_going_on(given[1], scope) else fallback


def _is_going_on(context: Context, scope: Scope) -> bool:
    """Whether what is current in `context` goes on in the same step, as far as that is known."""
    call: Any = get_value(OPEN_CALL, context)
    if (
        call is not None
        and not call.ended
        and call.scope is not None
        and (call.scope.turn, call.scope.step) == (scope.turn, scope.step)
    ):
        return True  # whether or not its span records
    span = trace.get_current_span(context)
    attributes = getattr(span, "attributes", None)
    return bool(
        attributes
        and scope.turn is not None
        and span.is_recording()
        and attributes.get(semconv.TURN_ID) == scope.turn.span_id
        and attributes.get(semconv.STEP_ID) == (scope.step.span_id if scope.step else None)
    )


def context_in(scope: Scope) -> Context:
    """Return the context that work of `scope` starts in."""
    place = scope.step or scope.frame
    return nearest(scope, place.context) if place is not None else otel_context.get_current()


def within(scope: Scope, context: Context) -> Context:
    """Return `context` with `scope` in it, for whoever is handed nothing else."""
    return set_value(_HANDED_ON, scope, context)


def handed_on(context: Context | None = None) -> Scope | None:
    """Return the scope in an OpenTelemetry context, which may be all that a thread was given."""
    found = get_value(_HANDED_ON, context)
    return found if isinstance(found, Scope) else None


def is_place(context: Context) -> bool:
    """Whether a context is the very one of a step, a turn or a nested graph."""
    scope = handed_on(context)
    place = (scope.step or scope.frame) if scope is not None else None
    return place is not None and place.context is context


def here(context: Context | None = None) -> Scope | None:
    """Return the scope of the running code, whether its turn goes on or not.

    Args:
        context: OpenTelemetry's context of what is asked about, where that is not the ambient one.

    Code that was given only the OpenTelemetry context has the scope in it, or that of the live span
    it names. A span of somebody else's that is a step stands deeper than the scope around it.
    """
    scope = current.get()
    if scope is not None and scope.turn is not None and scope.turn.ended:
        given = _given.get()
        if given is not None and given[0] is scope:
            # A thread that outlives the turn it was started in serves whoever comes next.
            _given.set(None)
            current.set(None)
            agents.current.set(None)
            scope = None
    if scope is None:
        found = handed_on(context)
        if found is None or (found.turn is not None and found.turn.ended):
            return _scope_of(trace.get_current_span(context))
        scope = found
    turn = scope.turn
    if turn is not None and (turn.has_adopted or turn.ended):
        inner = _scope_of(trace.get_current_span(context))
        if inner is not None and is_deeper(inner, scope):
            return inner
    return scope


def live() -> Scope | None:
    """Return the current scope if its turn has not ended."""
    scope = here()
    if scope is None or scope.turn is None or scope.turn.ended:
        return None
    return scope


def standing() -> Scope | None:
    """Return the scope that a call begun here belongs to, or None outside every turn.

    A task that outlived its turn is part of it only in what it does in that turn's trace.
    """
    scope = here()
    if scope is None or scope.turn is None:
        return None
    if scope.turn.ended:
        around = trace.get_current_span().get_span_context()
        if around.is_valid and f"{around.trace_id:032x}" != scope.turn.trace_id:
            return None
    return scope


def _scope_of(span: trace.Span) -> Scope | None:
    """Return the scope that a live span says it started in."""
    attributes = getattr(span, "attributes", None)
    if not attributes:
        return None
    found = find(attributes.get(semconv.TURN_ID), attributes.get(semconv.STEP_ID))
    return found.scope if found is not None else None


def is_deeper(inner: Scope, outer: Scope) -> bool:
    """Whether a scope's step stands inside another's; every step does inside its turn.

    An open turn stands inside the scope of whatever outlived another one.
    """
    if inner.turn is not outer.turn:
        return outer.turn is not None and outer.turn.ended
    step = inner.step
    if step is None or step is outer.step:
        return False
    if outer.step is None:
        return True
    while step is not None and step is not outer.step:
        step = step.parent
    return step is not None
