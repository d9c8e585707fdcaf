"""The span processor: our identity on every span, and other people's spans in the ledger.

On others' spans it adds our identity keys at start and changes nothing else; it never ends a span.
It remembers what it stamped until the span ends: where there are too many attributes (128 by
default) the SDK drops the oldest, and a call must not lose its engagement by that.
Our own spans carry their identity already and are written to the ledger from our own objects,
whether they are sampled or not.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.sdk.trace import SpanProcessor

from spanflow import semconv
from spanflow.capture import adopted, agents, sentinel
from spanflow.capture import scope as scopes
from spanflow.capture.dialects import read_span
from spanflow.capture.payload import clean
from spanflow.capture.records import record_of
from spanflow.capture.runtime import SCOPE_NAME
from spanflow.guard import report
from spanflow.spending import Call

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import ReadableSpan, Span

    from spanflow.capture.dialects import Reading
    from spanflow.capture.runtime import Runtime
    from spanflow.capture.step import Step
    from spanflow.capture.turn import Turn

__all__ = ["JourneyProcessor", "attach"]

_IDENTITY = (semconv.ENGAGEMENT_ID, semconv.TURN_ID, semconv.STEP_ID, semconv.AGENT_NAME)
_MOST_REMEMBERED = 10_000
"""Spans that are never ended must not pile up: beyond so many, all are forgotten."""


class JourneyProcessor(SpanProcessor):
    """Stamps identity on spans as they start; others' spans go to tally and journal as they end."""

    def __init__(self) -> None:
        self.runtime: Runtime | None = None
        self._stamped: dict[int, dict[str, str | int]] = {}
        self._adoptions = adopted.Adoptions()

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Add engagement, turn, step and agent to a span that starts inside a turn."""
        if self.runtime is None:
            return
        try:
            scope = span.instrumentation_scope
            if scope is not None and scope.name == SCOPE_NAME:
                return
            stamp = self._stamp_of(span, parent_context)
            inside = self._adopted(span, parent_context, stamp, self.runtime)
            if inside is None:
                _name_agent(span, stamp)
            stamp = inside or stamp
            if not stamp:
                return
            span.set_attributes(stamp)
            if len(self._stamped) >= _MOST_REMEMBERED:
                self._stamped.clear()
            self._stamped[span.get_span_context().span_id] = stamp
        except Exception as error:  # noqa: BLE001 - exceptions in processors reach the application
            report("processor.on_start", error)

    def on_end(self, span: ReadableSpan) -> None:
        """Count and record an ended span that is not ours, and end what it stands for."""
        try:
            scope = span.instrumentation_scope
            if scope is not None and scope.name == SCOPE_NAME:
                return
            held = self._adoptions.end(span)
            if self.runtime is not None:
                self._read(span, self.runtime, is_step=held is not None and held.step is not None)
            if held is not None:
                adopted.close(held, span)
        except Exception as error:  # noqa: BLE001 - exceptions in processors reach the application
            report("processor.on_end", error)

    def _read(self, span: ReadableSpan, runtime: Runtime, *, is_step: bool) -> None:
        attributes = span.attributes or {}
        context = span.get_span_context()
        stamp = self._stamped.pop(context.span_id, None) if context is not None else None
        if is_step:
            return
        if stamp is not None:
            attributes = _restored(attributes, stamp)
        _take(span, attributes, runtime)

    def shutdown(self) -> None:
        """Do nothing: what we hold belongs to ``setup``, not to the provider."""

    def force_flush(self, timeout_millis: int = 30_000) -> bool:  # noqa: ARG002 - the interface's
        """Do nothing: records are written as spans end."""
        return True

    def _stamp_of(self, span: Span, parent_context: Context | None) -> dict[str, str | int]:
        """Return the identity of a span that starts now: none outside every turn."""
        scope = scopes.current.get()
        if scope is scopes.OFF:
            return {}
        if (
            scope is not None
            and scope.turn is not None
            and scope.turn.ended
            # A task that outlived its turn: only what it does in that trace is still part of it.
            and f"{span.get_span_context().trace_id:032x}" != scope.turn.trace_id
        ):
            return {}
        if scope is None or scope.turn is None:
            return self._inherited(trace.get_current_span(parent_context))
        if scope.turn.has_adopted or scope.turn.ended:
            stamp = self._inherited(trace.get_current_span(parent_context))
            inner = _found(stamp)
            if inner is not None and scopes.is_deeper(inner.scope, scope):
                return stamp
        return _identity(scope)

    def _adopted(
        self,
        span: Span,
        parent_context: Context | None,
        stamp: dict[str, str | int],
        runtime: Runtime,
    ) -> dict[str, str | int] | None:
        """Return the identity of what runs inside a span that is adopted as a step or a turn."""
        role = adopted.role_in(span)
        if role is None or scopes.current.get() is scopes.OFF:
            return None
        found = _found(stamp)
        place = found.scope if found is not None else None
        outlived = stamp.get(semconv.TURN_ID) if found is None else None
        context = parent_context if parent_context is not None else otel_context.get_current()
        scope = self._adoptions.begin(span, role, place, context, runtime, outlived=outlived)
        return _identity(scope) if scope is not None else None

    def _inherited(self, parent: trace.Span) -> dict[str, str | int]:
        """Return the parent span's identity, for code given only the OpenTelemetry context."""
        remembered = self._stamped.get(parent.get_span_context().span_id)
        if remembered is not None:
            return remembered
        attributes = getattr(parent, "attributes", None)
        if not attributes:
            return {}
        # A step of ours that is still open: its own id is written when it ends.
        parent_id = f"{parent.get_span_context().span_id:016x}"
        ours = _ours(parent, parent_id, attributes.get(semconv.TURN_ID))
        if ours is not None:
            return _identity(ours.scope)
        if semconv.ENGAGEMENT_ID not in attributes:
            return {}
        return {k: v for k in _IDENTITY if isinstance(v := attributes.get(k), str)}


_attach_lock = threading.Lock()
_attached: list[tuple[object, JourneyProcessor]] = []


def attach(runtime: Runtime | None) -> bool:
    """Let the processor of the global tracer provider serve `runtime` (None: nobody).

    Where the provider has no processor of ours yet, it is added.

    Returns:
        Whether the provider takes processors (the SDK's does, the API's own does not).
    """
    provider = trace.get_tracer_provider()
    if runtime is not None:
        resource = getattr(provider, "resource", None)
        service = resource.attributes.get(semconv.SERVICE_NAME) if resource is not None else None
        runtime.service_name = clean(service) if service else None
    with _attach_lock:
        for owner, processor in _attached:
            processor.runtime = runtime if owner is provider else None
            if owner is provider:
                return True
        posted = sentinel.of(provider)
        add = getattr(provider, "add_span_processor", None)
        if runtime is None or not callable(add):
            return False
        processor = JourneyProcessor()
        processor.runtime = runtime
        if posted is not None:
            posted.listener = processor
        else:
            add(processor)
        _attached.append((provider, processor))
        return True


def _name_agent(span: Span, stamp: dict[str, str | int]) -> None:
    """Say on a span that starts in a turn which agent an app has named for it."""
    if agents.around() is None or semconv.GEN_AI_AGENT_NAME in (span.attributes or {}):
        return
    place = _found(stamp)
    name = agents.name_at(place.scope) if place is not None else None
    if name is not None:
        span.set_attribute(semconv.GEN_AI_AGENT_NAME, name)


def _identity(scope: scopes.Scope) -> dict[str, str | int]:
    if scope.turn is None:
        return {}
    stamp: dict[str, str | int] = {
        semconv.ENGAGEMENT_ID: scope.turn.identity.engagement_id,
        semconv.TURN_ID: scope.turn.span_id,
    }
    if scope.step is not None:
        stamp[semconv.STEP_ID] = scope.step.span_id
        if scope.step.agent_name is not None:
            stamp[semconv.AGENT_NAME] = scope.step.agent_name
        attempt = scope.step.attempt
        if attempt > 1:
            stamp[semconv.CALL_ATTEMPT] = attempt
    return stamp


def _found(stamp: Mapping[str, str | int]) -> Turn | Step | None:
    return scopes.find(stamp.get(semconv.TURN_ID), stamp.get(semconv.STEP_ID))


def _ours(parent: trace.Span, parent_id: str, turn_id: object) -> Turn | Step | None:
    """Return the open step or turn of ours whose span `parent` is."""
    found = scopes.find(turn_id, parent_id)
    if found is None and _is_ours(parent):
        # Its own attributes were dropped or cut.
        for turn in list(scopes.turns.values()):
            found = turn if turn.span_id == parent_id else turn.steps.get(parent_id)
            if found is not None:
                break
    return found if found is not None and found.span_id == parent_id else None


def _is_ours(span: ReadableSpan | trace.Span) -> bool:
    scope = getattr(span, "instrumentation_scope", None)
    return scope is not None and scope.name == SCOPE_NAME


def _restored(attributes: Mapping[str, Any], stamp: Mapping[str, str | int]) -> Mapping[str, Any]:
    """Return the attributes with what the SDK dropped or cut of our stamp."""
    lost = {
        key: value
        for key, value in stamp.items()
        if (found := attributes.get(key)) is None
        or (found != value and isinstance(found, str) and str(value).startswith(found))
    }
    return {**attributes, **lost} if lost else attributes


def _take(span: ReadableSpan, attributes: Mapping[str, Any], runtime: Runtime) -> None:
    scope_name = span.instrumentation_scope.name if span.instrumentation_scope is not None else ""
    reading = read_span(span.name, span.kind.name, scope_name, attributes, span.start_time)
    if reading is None and semconv.ENGAGEMENT_ID not in attributes:
        return
    record = record_of(
        span, source="capture", reading=reading, limit=runtime.payload_bytes, attributes=attributes
    )
    if record is None:
        return
    owner = scopes.find(attributes.get(semconv.TURN_ID), attributes.get(semconv.STEP_ID))
    if owner is not None:
        _count(record, reading, owner)
    runtime.record(record)


def _count(record: dict[str, Any], reading: Reading | None, owner: Turn | Step) -> None:
    kind = reading.kind if reading is not None else None
    is_tool = kind == "tool"
    if reading is not None and kind != "retrieval":
        call = Call(
            span_id=record["span_id"],
            parent_span_id=None if is_tool else record.get("parent_span_id"),
            scope=record.get("scope") or "",
            step_id=record.get("step_id"),
            model=record.get("name" if is_tool else "model"),
            response_id=record.get("call_id" if is_tool else "response_id"),
            started_ns=record["started_ns"],
            ended_ns=record["ended_ns"],
            usage=reading.usage,
        )
        if not is_tool:
            owner.calls.add(call)
            return
        owner.calls.add_tool(call)
    owner.calls.add_parent(record["span_id"], record.get("parent_span_id"))
