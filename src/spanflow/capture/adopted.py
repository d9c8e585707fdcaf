"""What somebody else's spans of agents and workflows become: steps of ours, and turns.

An agent's span *is* the step: our names are put on it as it starts, and it is neither ended nor
written to afterwards. The outermost one outside every turn opens a turn, whose span is its child.
This module reads spans and knows no framework; what each dialect says is read in ``dialects``.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, NamedTuple

from opentelemetry import context as otel_context
from opentelemetry import trace

from spanflow import semconv
from spanflow.capture import carried, goals
from spanflow.capture import scope as scopes
from spanflow.capture.content import captures_content
from spanflow.capture.dialects import names
from spanflow.capture.dialects.roles import called, role_of
from spanflow.capture.events import Events, told_by
from spanflow.capture.identity import GraphShape, Identity
from spanflow.capture.payload import clean, identifier
from spanflow.capture.runtime import new_engagement_id
from spanflow.capture.step import Step
from spanflow.capture.told import ended_events, ending_of, outcome_of
from spanflow.capture.turn import Turn
from spanflow.capture.usage import usage_attributes
from spanflow.guard import diagnose

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import ReadableSpan, Span
    from opentelemetry.trace import Link
    from opentelemetry.util.types import AttributeValue

    from spanflow.capture.dialects.roles import Role
    from spanflow.capture.events import Event
    from spanflow.capture.frame import Frame
    from spanflow.capture.runtime import Runtime
    from spanflow.capture.scope import Scope

__all__ = ["AdoptedStep", "Adoptions", "close", "role_in"]

_PREFIX = "spanflow."

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


class AdoptedStep(Step):
    """A step whose span is somebody else's: named as it starts, and only read afterwards."""

    __slots__ = ("_ended", "_inner_errors", "_span", "_told")

    def __init__(
        self, span: Span, frame: Frame, name: str, parent: Step | None, context: Context
    ) -> None:
        self._span = span
        self._ended: ReadableSpan | None = None
        self._inner_errors: set[tuple[str, str]] = set()
        self._told: tuple[str, str] | None = None
        key = f"{span.get_span_context().span_id:016x}"
        if parent is not None:
            # A node that is run again for an answer asks the same agents again, in the same order.
            within = f"{parent.span_id}/{name}"
            nth = frame.turn.visits[within] = frame.turn.visits.get(within, 0) + 1
            key = f"{parent.key}/{name}/{nth}"
        super().__init__(frame, name, key, None, parent, agent_name=name, context=context)
        self.trace_id = f"{span.get_span_context().trace_id:032x}"
        self.context = scopes.within(self.scope, trace.set_span_in_context(span, context))
        self.base["trace_id"] = self.trace_id
        self.base["parent_span_id"] = f"{span.parent.span_id:016x}" if span.parent else None
        self.base["scope"] = _scope_name(span)

    def _open_span(
        self,
        name: str,  # noqa: ARG002 - it has one of its own
        context: Context,  # noqa: ARG002 - it has started
        attributes: dict[str, AttributeValue],
        links: list[Link] | None,  # noqa: ARG002 - nothing is known to have caused it
    ) -> Span:
        """Say on the span whose step it is; what it says of its agent itself is its own affair."""
        self.started_ns = self._span.start_time or self.started_ns
        ours = {key: value for key, value in attributes.items() if _is_ours(key)}
        self._span.set_attributes(
            {**ours, semconv.STEP_ID: f"{self._span.get_span_context().span_id:016x}"}
        )
        return self._span

    def add_event(self, event: Event) -> None:
        """Keep an event for the step's record: the span is not ours to write to."""
        if self._events is None:
            self._events = Events()
        self._events.add(event)

    def finish(self, span: ReadableSpan, ending: _Ending) -> None:
        """End the step with its span.

        Args:
            span: The step's own, ended.
            ending: How its work ended.
        """
        with self.frame.turn.lock:
            self._ended = span
            self._told = ending.told
            self.status = "cancelled" if ending.outcome == "left" else ending.outcome
            self.ended_ns = span.end_time or time.time_ns()
            if self.parent is not None and ending.error is not None:
                self.parent.inner_error = ending.error
            if isinstance(self.parent, AdoptedStep) and ending.told is not None:
                self.parent._inner_errors.add(ending.told)  # noqa: SLF001 - of this class
            is_open = self.frame.open.get(self.key) is self
            self.parked = True
        if is_open:
            self.end()
        else:
            self._write()  # its turn ended before it did, and had taken it for cancelled

    def _write(self) -> None:
        fields: dict[str, Any] = {
            "phase": "end",
            "ended_ns": self.ended_ns,
            "status": self.status,
            "attempts": self.attempts,
            # None at all is told too: another feed would fill in what came up from inside.
            "events": self._told_events(),
        }
        if self.status == "failed" and self._told is not None:
            fields["error_type"], fields["error_message"] = self._told
        if self._totals is not None:
            fields["attributes"] = usage_attributes(self._totals) or None
        self.frame.turn.steps.pop(self.span_id, None)
        self.frame.runtime.record({**self.base, **fields})

    def _told_events(self) -> list[dict[str, Any]]:
        """Return what an app said of the step, and its span's events.

        An error that came up from a step inside this one is that step's event: counted once.
        """
        kept = (self._events.as_records() if self._events is not None else None) or []
        if self._ended is None:
            return kept
        limit = self.frame.runtime.payload_bytes
        ending = (self.status, self._told)
        if self.inner_error is not None:
            self._inner_errors.add(told_by(self.inner_error, limit))
        told = ended_events(self._ended, ending, limit, content=captures_content())
        return kept + [event for event in told if not self._is_inner(event)]

    def _is_inner(self, event: dict[str, Any]) -> bool:
        kind = event["name"].rpartition(".")[2]
        return (
            event["kind"] == "error" and (kind, event["payload"]["message"]) in self._inner_errors
        )


class _Ending(NamedTuple):
    """How the work of an agent or a workflow ended.

    Of an error `told` is type and message, and `error` the exception where it is known.
    """

    outcome: str
    told: tuple[str, str] | None
    error: BaseException | None = None


class _Held(NamedTuple):
    """A span that goes on: the step it is, the turn it opened, and what was raised before it."""

    role: Role
    step: AdoptedStep | None
    turn: Turn | None
    raised: int


class Adoptions:
    """The spans of somebody else's that are steps, or that opened turns, and go on."""

    def __init__(self) -> None:
        self._held: OrderedDict[int, _Held] = OrderedDict()
        self._lock = threading.Lock()

    def begin(
        self,
        span: Span,
        role: Role,
        place: Scope | None,
        context: Context,
        runtime: Runtime,
    ) -> Scope | None:
        """Adopt a span that starts; return the scope of what runs inside, None where it is left.

        Args:
            span: The span, started.
            role: What it stands for.
            place: The scope it starts in; None outside every turn.
            context: OpenTelemetry's context that it starts in.
            runtime: Whom the capture serves.
        """
        name = clean(called(role, span.name, span.attributes or {}))
        role = _corrected(span, role, context)
        if _is_told_already(span, role, name, place):
            return None
        turn = None
        if place is None:
            turn = _open_turn(span, name, context, runtime)
            place = turn.scope
        step = _open_step(span, name, place, context) if role == "agent" else None
        if step is None and turn is None:
            return None
        with self._lock:
            span_id = span.get_span_context().span_id
            self._held[span_id] = _Held(role, step, turn, id(sys.exc_info()[1]))
            if len(self._held) > _MOST_HELD:
                self._held.popitem(last=False)
                diagnose("adopted.held", "agents' spans are not ended; the oldest is forgotten")
        return step.scope if step is not None else place

    def end(self, span: ReadableSpan) -> _Held | None:
        """Take what is known of an ended span out, and end the step that it is."""
        context = span.get_span_context()
        held = self._held.pop(context.span_id, None) if self._held and context else None
        if held is not None and held.step is not None:
            held.step.finish(span, _ending(span, held, held.step.frame.runtime.payload_bytes))
        return held


def close(held: _Held, span: ReadableSpan) -> None:
    """End the turn that a span opened, if it opened one."""
    turn = held.turn
    if turn is None:
        return
    for field, said in _who(span.attributes or {}).items():
        if turn.base[field] is None and said is not None:
            turn.base[field] = said
            turn.span.set_attribute(_WHO[field][0], said)
    ending = _ending(span, held, turn.runtime.payload_bytes)
    outcome = "paused" if ending.outcome == "waiting" else ending.outcome
    turn.close(outcome, told=ending.told, ended_ns=span.end_time)


def role_in(span: Span) -> Role | None:
    """Return what a span that starts stands for, if it is one to adopt."""
    role = role_of(span.name, span.attributes or {})
    if role is None:
        return None
    scope = _scope_name(span)
    if scope in _LEFT_ALONE | _GRAPHS or (role == "workflow" and scope in _LANGCHAIN):
        return None
    return role


def _corrected(span: Span, role: Role, context: Context) -> Role:
    """Return a span's role; where every run has one around it, the outermost is no agent's."""
    scope = _scope_name(span)
    if role == "agent" and scope in _TRACES:
        return role if _scope_name(trace.get_current_span(context)) == scope else "workflow"
    return role


def _is_told_already(span: Span, role: Role, name: str, place: Scope | None) -> bool:
    """Tell whether an agent's run is known already: from its graph, or from somebody else."""
    if role == "workflow" or place is None:
        return False
    scope = _scope_name(span)
    if scope in _LANGCHAIN and place.frame is not None and place.frame.shape.version is not None:
        return True
    step = place.step
    return (
        isinstance(step, AdoptedStep) and step.base["name"] == name and step.base["scope"] != scope
    )


def _open_turn(span: Span, name: str, context: Context, runtime: Runtime) -> Turn:
    """Open the turn of a run that somebody else's span stands for, as that span's child."""
    brought = carried.engagement_id(runtime)
    identity = Identity(
        engagement_id=brought or new_engagement_id(),
        name=name,
        kind="remote" if brought is not None else "new",
        goals=tuple(runtime.settings.goals),
        global_steps=tuple(runtime.settings.global_steps),
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


def _ending(span: ReadableSpan, held: _Held, limit: int) -> _Ending:
    """Return how the work ended that a span stands for.

    Nobody writes cancellation on a span, and not every workflow its failure: the exception that
    leaves its block as it ends does tell.
    """
    raised = sys.exc_info()[1]
    if raised is None or id(raised) == held.raised:
        return _Ending(*ending_of(span, span.attributes or {}, limit))
    if isinstance(raised, GeneratorExit):
        return _Ending("left", None)
    if isinstance(raised, asyncio.CancelledError | KeyboardInterrupt | SystemExit):
        return _Ending("cancelled", None)
    outcome, told = ending_of(span, span.attributes or {}, limit)
    if told is None and (held.role == "agent" or outcome != "completed"):
        return _Ending(outcome, told)
    if told is None or told[0] == semconv.ERROR_TYPE_OTHER:
        kind = type(raised)
        known = outcome_of(f"{kind.__module__}.{kind.__qualname__}")
        if known is not None:
            return _Ending(known, None)
        told = told_by(raised, limit)
    return _Ending("failed", told, raised)


def _who(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return whose run a span says it is."""
    found: dict[str, Any] = {}
    for field, (_, keys) in _WHO.items():
        said = next((v for k in keys if isinstance(v := attributes.get(k), str) and v), None)
        found[field] = identifier(said) if said is not None else None
    return found


def _scope_name(span: object) -> str:
    scope = getattr(span, "instrumentation_scope", None)
    return scope.name if scope is not None else ""


def _is_ours(key: str) -> bool:
    return key.startswith(_PREFIX)
