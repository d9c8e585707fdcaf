"""Spans sent straight through OpenTelemetry's SDK: other people's, or a turn of one's choice."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Status, StatusCode, Tracer, set_span_in_context

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_SECOND_NS = 1_000_000_000


@contextmanager
def tracing(environment: Mapping[str, str], service: str) -> Iterator[Tracer]:
    """Give a tracer whose spans have all been handed over at the end."""
    provider = TracerProvider(resource=Resource.create({"service.name": service}))
    exporter = OTLPSpanExporter(environment["OTEL_EXPORTER_OTLP_ENDPOINT"], insecure=True)
    provider.add_span_processor(BatchSpanProcessor(exporter, max_queue_size=20_000))
    yield provider.get_tracer("somebody")
    assert provider.force_flush()
    provider.shutdown()


def send_turn(
    tracer: Tracer, took_s: float = 0.1, *, error: bool = False, **attributes: Any
) -> str:
    """Send a trace of a turn and a step in it, and return its id.

    Args:
        tracer: Whose spans they are.
        took_s: How long the turn took, in seconds.
        error: Whether the step failed.
        attributes: What the turn says, with `__` for a dot; the step says the engagement's id.
    """
    told = {key.replace("__", "."): value for key, value in attributes.items()}
    identity = {key: value for key, value in told.items() if key == "spanflow.engagement.id"}
    began_ns = time.time_ns() - int(took_s * _SECOND_NS)
    turn = tracer.start_span("invoke_workflow x", start_time=began_ns, attributes=told)
    around = set_span_in_context(turn)
    step = tracer.start_span("step a", around, start_time=began_ns, attributes=identity)
    if error:
        step.set_status(Status(StatusCode.ERROR, "it broke"))
    step.end(began_ns + 1_000)
    turn.end(began_ns + int(took_s * _SECOND_NS))
    return f"{turn.get_span_context().trace_id:032x}"
