"""What somebody else's spans of agents and workflows become: steps of ours, and turns.

An agent's span *is* the step: our names are put on it as it starts, and it is neither ended nor
written to afterwards. The outermost one outside every turn opens a turn, whose span is its child.
This module reads spans and knows no framework; what each dialect says is read in ``dialects``.
"""

from __future__ import annotations

import asyncio
import dataclasses
import sys
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, NamedTuple

from opentelemetry import context as otel_context
from opentelemetry import trace

from spanflow import semconv
from spanflow.capture import carried, goals
from spanflow.capture.adopted_step import AdoptedStep, Ending, scope_name
from spanflow.capture.dialects import names
from spanflow.capture.dialects.roles import called, role_of, told_name
from spanflow.capture.events import told_by
from spanflow.capture.identity import GraphShape, Identity
from spanflow.capture.payload import clean, identifier
from spanflow.capture.runtime import new_engagement_id
from spanflow.capture.told import ending_of, outcome_of
from spanflow.capture.turn import Turn
from spanflow.guard import diagnose

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import ReadableSpan, Span

    from spanflow.capture.dialects.roles import Role
    from spanflow.capture.runtime import Runtime
    from spanflow.capture.scope import Scope

__all__ = ["Adoptions", "close", "role_in"]

_MOST_HELD = 10_000
"""Spans that are never ended must not pile up: beyond so many the oldest is forgotten."""
_LANGCHAIN = frozenset(
    {
        "openinference.instrumentation.langchain",
        "opentelemetry.instrumentation.langchain",
        "opentelemetry.instrumentation.genai.langchain",
    }
)
"""Scopes that report LangChain's callbacks: its chains are no workflows, and ours are told apart
by the graph they run in."""
_LEFT_ALONE = frozenset({"langfuse-sdk", "langsmith", "litellm"})
"""Scopes whose spans come from elsewhere or after the fact."""
_GRAPHS = frozenset({"opentelemetry.instrumentation.langchain"})
"""Scopes whose agents are LangGraph's runs: each is a turn or a graph of ours, or was left out."""
_TRACES = frozenset({"openinference.instrumentation.openai_agents"})
"""Scopes that call the outermost span of a run an agent although none is at work in it."""
_WHO = {
    "user_id": (semconv.USER_ID, names.USER_ID),
    "session_id": (semconv.SESSION_ID, names.SESSION_ID),
    "conversation_id": (semconv.GEN_AI_CONVERSATION_ID, names.CONVERSATION_ID),
}


class _Held(NamedTuple):
    """A span that goes on: the step it is, the turn it opened, and what was raised before it."""

    role: Role
    step: AdoptedStep | None
    turn: Turn | None
    raised: int
    around: carried.TakenOut | None
    """What was taken out of the context around it."""

    def is_paused(self, turn_id: object) -> bool:
        """Whether it waits for a person, since the turn of this id ended."""
        step = self.step
        if step is not None and step.status == "waiting":
            return step.frame.turn.span_id == turn_id
        return self.turn is not None and self.turn.ended and self.turn.span_id == turn_id


class Adoptions:
    """The spans of somebody else's that are steps, or that opened turns, and go on."""

    def __init__(self) -> None:
        self._held: OrderedDict[int, _Held] = OrderedDict()
        self._lock = threading.Lock()

    def begin(  # noqa: PLR0913 - what a span starts in, by name
        self,
        span: Span,
        role: Role,
        place: Scope | None,
        context: Context,
        runtime: Runtime,
        *,
        outlived: object = None,
    ) -> Scope | None:
        """Adopt a span that starts; return the scope of what runs inside, None where it is left.

        Args:
            span: The span, started.
            role: What it stands for.
            place: The scope it starts in; None outside every turn.
            context: OpenTelemetry's context that it starts in.
            runtime: Whom the capture serves.
            outlived: The id of the turn that is over and that it starts in, if it does in one.
        """
        if outlived is not None and (scope_name(span) in _LANGCHAIN or self._is_paused(outlived)):
            return None  # a node that goes on, whose graph has been left
        name = clean(called(role, span.name, span.attributes or {}))
        named_as, role = role, _corrected(span, role, context)
        if _is_told_already(span, role, name, place):
            return None
        turn = None
        around = None
        if place is None:
            started_by = trace.get_current_span(context) if outlived is not None else None
            turn = _open_turn(span, name, context, runtime, started_by)
            place = turn.scope
            around = carried.take_out()
        step = _open_step(span, name, place, context) if role == "agent" else None
        if step is None and turn is None:
            return None
        with self._lock:
            span_id = span.get_span_context().span_id
            self._held[span_id] = _Held(named_as, step, turn, id(sys.exc_info()[1]), around)
            if len(self._held) > _MOST_HELD:
                self._held.popitem(last=False)
                diagnose("adopted.held", "agents' spans are not ended; the oldest is forgotten")
        return step.scope if step is not None else place

    def end(self, span: ReadableSpan) -> _Held | None:
        """Take what is known of an ended span out, and end the step that it is."""
        context = span.get_span_context()
        held = self._held.pop(context.span_id, None) if self._held and context else None
        if held is not None and held.step is not None:
            held.step.take_name(_late_name(span, held))
            held.step.finish(span, _ending(span, held, held.step.frame.runtime.payload_bytes))
        return held

    def _is_paused(self, turn_id: object) -> bool:
        """Whether a span goes on whose turn was paused: what it still does is part of no turn."""
        with self._lock:
            return any(held.is_paused(turn_id) for held in self._held.values())


def close(held: _Held, span: ReadableSpan) -> None:
    """End the turn that a span opened, if it opened one."""
    turn = held.turn
    if held.around is not None:
        held.around.put_back()
    if turn is None:
        return
    for field, said in _who(span.attributes or {}).items():
        if turn.base[field] is None and said is not None:
            turn.base[field] = said
            turn.span.set_attribute(_WHO[field][0], said)
    name = _late_name(span, held)
    if name is not None:
        turn.identity = dataclasses.replace(turn.identity, name=name)
        turn.base["name"] = name
        turn.span.set_attribute(semconv.ENGAGEMENT_NAME, name)
    ending = _ending(span, held, turn.runtime.payload_bytes)
    outcome = "paused" if ending.outcome == "waiting" else ending.outcome
    turn.close(outcome, told=ending.told, ended_ns=span.end_time)


def role_in(span: Span) -> Role | None:
    """Return what a span that starts stands for, if it is one to adopt."""
    role = role_of(span.name, span.attributes or {})
    if role is None:
        return None
    scope = scope_name(span)
    if scope in _LEFT_ALONE | _GRAPHS or (role == "workflow" and scope in _LANGCHAIN):
        return None
    return role


def _corrected(span: Span, role: Role, context: Context) -> Role:
    """Return a span's role; where every run has one around it, the outermost is no agent's."""
    scope = scope_name(span)
    if role == "agent" and scope in _TRACES:
        return role if scope_name(trace.get_current_span(context)) == scope else "workflow"
    return role


def _is_told_already(span: Span, role: Role, name: str, place: Scope | None) -> bool:
    """Tell whether an agent's run is known already: from its graph, or from somebody else."""
    if role == "workflow" or place is None:
        return False
    scope = scope_name(span)
    if scope in _LANGCHAIN and place.frame is not None and place.frame.shape.version is not None:
        return True
    step = place.step
    return (
        isinstance(step, AdoptedStep) and step.base["name"] == name and step.base["scope"] != scope
    )


def _open_turn(
    span: Span, name: str, context: Context, runtime: Runtime, started_by: trace.Span | None
) -> Turn:
    """Open the turn of a run that somebody else's span stands for, as that span's child."""
    brought = carried.engagement_id(runtime)
    identity = Identity(
        engagement_id=brought or new_engagement_id(),
        name=name,
        kind="remote" if brought is not None else "new",
        goals=tuple(runtime.settings.goals),
        global_steps=tuple(runtime.settings.global_steps),
        started_by=started_by.get_span_context() if started_by is not None else None,
        **_who(span.attributes or {}),
    )
    token = otel_context.attach(trace.set_span_in_context(span, context))
    try:
        return Turn(runtime, GraphShape(None, name), identity, span.start_time)
    finally:
        otel_context.detach(token)


def _open_step(span: Span, name: str, place: Scope, context: Context) -> AdoptedStep | None:
    turn, frame = place.turn, place.frame
    if turn is None or frame is None:
        return None
    with turn.lock:
        if turn.ended:
            return None
        turn.has_adopted = True
        step = AdoptedStep(span, frame, name, place.step, context)
        # What wrote to a graph's channels is for its own steps to say: no `causes.begin`.
        frame.open[step.key] = step
        turn.note_start(step)
    goals.note_shape(f"agent {step.path}", (step.path,), ())
    step.announce()
    return step


def _ending(span: ReadableSpan, held: _Held, limit: int) -> Ending:
    """Return how the work ended that a span stands for.

    Nobody writes cancellation on a span, and not every workflow its failure: the exception that
    leaves its block as it ends does tell.
    """
    raised = sys.exc_info()[1]
    if raised is None or id(raised) == held.raised:
        return Ending(*ending_of(span, span.attributes or {}, limit))
    if isinstance(raised, GeneratorExit):
        return Ending("left", None)
    if isinstance(raised, asyncio.CancelledError | KeyboardInterrupt | SystemExit):
        return Ending("cancelled", None)
    outcome, told = ending_of(span, span.attributes or {}, limit)
    if told is None and (held.step is not None or outcome != "completed"):
        return Ending(outcome, told)
    if told is None or told[0] == semconv.ERROR_TYPE_OTHER:
        kind = type(raised)
        known = outcome_of(f"{kind.__module__}.{kind.__qualname__}")
        if known is not None:
            return Ending(known, None)
        told = told_by(raised, limit)
    return Ending("failed", told, raised)


def _late_name(span: ReadableSpan, held: _Held) -> str | None:
    """Return the name that an ended span tells: as it started it may have told none."""
    told = told_name(held.role, span.attributes or {})
    return clean(told) if told is not None else None


def _who(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return whose run a span says it is."""
    found: dict[str, Any] = {}
    for field, (_, keys) in _WHO.items():
        said = next((v for k in keys if isinstance(v := attributes.get(k), str) and v), None)
        found[field] = identifier(said) if said is not None else None
    return found
