"""The span processor: our identity on every span, and other people's spans in the ledger.

On others' spans it adds our identity keys at start and changes nothing else; it never ends a span.
Our own spans carry their identity already and are written to the ledger from our own objects,
whether they are sampled or not.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from opentelemetry import trace
from opentelemetry.sdk.trace import SpanProcessor

from spanflow import semconv
from spanflow.capture import scope as scopes
from spanflow.capture.dialects import read_span
from spanflow.capture.payload import clean
from spanflow.capture.records import record_of
from spanflow.capture.runtime import SCOPE_NAME
from spanflow.guard import report
from spanflow.tally import Call

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import ReadableSpan, Span

    from spanflow.capture.dialects import Reading
    from spanflow.capture.runtime import Runtime
    from spanflow.capture.step import Step
    from spanflow.capture.turn import Turn

__all__ = ["JourneyProcessor", "attach"]

_IDENTITY = (semconv.ENGAGEMENT_ID, semconv.TURN_ID, semconv.STEP_ID)


class JourneyProcessor(SpanProcessor):
    """Stamps identity on spans as they start; others' spans go to tally and journal as they end."""

    def __init__(self) -> None:
        self.runtime: Runtime | None = None

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Add engagement, turn and step id to a span that starts inside a turn."""
        if self.runtime is None:
            return
        try:
            scope = span.instrumentation_scope
            if scope is not None and scope.name == SCOPE_NAME:
                return
            _stamp(span, parent_context)
        except Exception as error:  # noqa: BLE001 - exceptions in processors reach the application
            report("processor.on_start", error)

    def on_end(self, span: ReadableSpan) -> None:
        """Count and record an ended span that is not ours."""
        runtime = self.runtime
        if runtime is None:
            return
        try:
            scope = span.instrumentation_scope
            if scope is not None and scope.name == SCOPE_NAME:
                return
            _take(span, runtime)
        except Exception as error:  # noqa: BLE001 - exceptions in processors reach the application
            report("processor.on_end", error)

    def shutdown(self) -> None:
        """Do nothing: what we hold belongs to ``setup``, not to the provider."""

    def force_flush(self, timeout_millis: int = 30_000) -> bool:  # noqa: ARG002 - the interface's
        """Do nothing: records are written as spans end."""
        return True


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
        add = getattr(provider, "add_span_processor", None)
        if runtime is None or not callable(add):
            return False
        processor = JourneyProcessor()
        processor.runtime = runtime
        add(processor)
        _attached.append((provider, processor))
        return True


def _stamp(span: Span, parent_context: Context | None) -> None:
    scope = scopes.current.get()
    if scope is scopes.OFF:
        return
    if (
        scope is not None
        and scope.turn is not None
        and scope.turn.ended
        # A task that outlived its turn: only what it does in that trace is still part of it.
        and f"{span.get_span_context().trace_id:032x}" != scope.turn.trace_id
    ):
        return
    parent = trace.get_current_span(parent_context)
    if scope is None or scope.turn is None:
        _inherit(span, parent)
        return
    _identify(span, scope)


def _identify(span: Span, scope: scopes.Scope) -> None:
    if scope.turn is None:
        return
    span.set_attribute(semconv.ENGAGEMENT_ID, scope.turn.identity.engagement_id)
    span.set_attribute(semconv.TURN_ID, scope.turn.span_id)
    if scope.step is not None:
        span.set_attribute(semconv.STEP_ID, scope.step.span_id)
        attempt = scope.step.attempt
        if attempt > 1:
            span.set_attribute(semconv.CALL_ATTEMPT, attempt)


def _inherit(span: Span, parent: trace.Span) -> None:
    """Take the identity from the parent span, for code given only the OpenTelemetry context."""
    attributes = getattr(parent, "attributes", None)
    if not attributes or semconv.ENGAGEMENT_ID not in attributes:
        return
    # A step of ours that is still open: its own id is written when it ends.
    parent_id = f"{parent.get_span_context().span_id:016x}"
    ours = scopes.find(attributes.get(semconv.TURN_ID), parent_id)
    if ours is not None and ours.span_id == parent_id:
        _identify(span, ours.scope)
        return
    for key in _IDENTITY:
        value = attributes.get(key)
        if isinstance(value, str):
            span.set_attribute(key, value)


def _take(span: ReadableSpan, runtime: Runtime) -> None:
    attributes = span.attributes or {}
    scope_name = span.instrumentation_scope.name if span.instrumentation_scope is not None else ""
    reading = read_span(span.name, span.kind.name, scope_name, attributes, span.start_time)
    if reading is None and semconv.ENGAGEMENT_ID not in attributes:
        return
    record = record_of(span, source="capture", reading=reading, limit=runtime.payload_bytes)
    if record is None:
        return
    owner = scopes.find(attributes.get(semconv.TURN_ID), attributes.get(semconv.STEP_ID))
    if owner is not None:
        _count(record, reading, owner)
    runtime.record(record)


def _count(record: dict[str, Any], reading: Reading | None, owner: Turn | Step) -> None:
    if reading is not None and reading.kind in ("llm", "embeddings"):
        owner.calls.add(
            Call(
                span_id=record["span_id"],
                parent_span_id=record.get("parent_span_id"),
                scope=record.get("scope") or "",
                step_id=record.get("step_id"),
                model=record.get("model"),
                response_id=record.get("response_id"),
                started_ns=record["started_ns"],
                ended_ns=record["ended_ns"],
                usage=reading.usage,
            )
        )
        return
    if reading is not None and reading.kind == "tool":
        owner.calls.tool_calls += 1
    owner.calls.add_parent(record["span_id"], record.get("parent_span_id"))
