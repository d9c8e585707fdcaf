"""Reads OTLP as JSON, the form in which the Collector writes spans to a file, into records.

A span becomes the SDK's own object and is read by the same functions as one that an exporter is
handed, so both say the same. What is malformed is refused with a reason, span by span; nothing
raises. Files, lines and compression are :mod:`spanflow.capture.otlp_files`'s.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, cast

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode

from spanflow import semconv
from spanflow.capture.dialects import read_span
from spanflow.capture.records import record_of

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Told", "read_document", "spans_in"]

_TRACE_DIGITS: Final = 32
_SPAN_DIGITS: Final = 16
_HEX: Final = re.compile(r"[0-9a-fA-F]+")
_DEEPEST: Final = 40
_MAX_NS: Final = 2**63
_OTHER_SIGNALS: Final = ("resourceMetrics", "resourceLogs", "resourceProfiles")
_KINDS: Final = {
    kind: name
    for number, name in enumerate(("INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER"), 1)
    for kind in (number, f"SPAN_KIND_{name}")
}
_STATUSES: Final[dict[object, StatusCode]] = {
    1: StatusCode.OK,
    "STATUS_CODE_OK": StatusCode.OK,
    2: StatusCode.ERROR,
    "STATUS_CODE_ERROR": StatusCode.ERROR,
}


class _RefusedError(Exception):
    """Why a span cannot be taken; it never leaves this module."""


@dataclass(slots=True)
class Told:
    """What one document said.

    Attributes:
        spans: Spans in it, the refused ones included.
        records: The records of those that are the ledger's business.
        refused: Why each of the others could not be read.
    """

    spans: int = 0
    records: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    refused: list[str] = field(default_factory=list[str])


def read_document(document: object, limit: int) -> Told:
    """Read one export request: ``{"resourceSpans": […]}``; metrics and logs say nothing.

    Args:
        document: The parsed JSON.
        limit: The longest payload kept, in bytes.
    """
    told = Told()
    if not isinstance(document, dict):
        told.refused.append("no export request: it is not an object")
        return told
    request = cast("dict[str, object]", document)
    if request and "resourceSpans" not in request:
        if not any(key in request for key in _OTHER_SIGNALS):
            told.refused.append("no export request: it has no resourceSpans")
        return told
    for span in spans_in(request):
        told.spans += 1
        if isinstance(span, str):
            told.refused.append(span)
            continue
        scope = span.instrumentation_scope.name if span.instrumentation_scope else ""
        reading = read_span(
            span.name, span.kind.name, scope, span.attributes or {}, span.start_time
        )
        record = record_of(span, source="otlp", reading=reading, limit=limit)
        if record is not None:
            told.records.append(record)
    return told


def spans_in(request: dict[str, object]) -> Iterator[ReadableSpan | str]:
    """Yield every span of one export request, or why it cannot be read."""
    for of_resource in _objects(request.get("resourceSpans")):
        resource = _resource(of_resource.get("resource"))
        for of_scope in _objects(of_resource.get("scopeSpans")):
            said = _object(of_scope.get("scope"))
            scope = InstrumentationScope(_text(said.get("name")), _text(said.get("version")))
            for raw in _objects(of_scope.get("spans")):
                try:
                    yield _span(raw, resource, scope)
                except _RefusedError as error:
                    yield str(error)


def _span(raw: dict[str, object], resource: Resource, scope: InstrumentationScope) -> ReadableSpan:
    trace_id = _id(raw.get("traceId"), _TRACE_DIGITS)
    span_id = _id(raw.get("spanId"), _SPAN_DIGITS)
    if trace_id is None or span_id is None:
        message = "a span without a valid trace id and span id"
        raise _RefusedError(message)
    started_ns = _nanoseconds(raw.get("startTimeUnixNano"))
    ended_ns = _nanoseconds(raw.get("endTimeUnixNano"))
    if started_ns is None and ended_ns is None:
        message = f"span {span_id:016x} has no time"
        raise _RefusedError(message)
    parent_id = _id(raw.get("parentSpanId"), _SPAN_DIGITS)
    return ReadableSpan(
        name=_text(raw.get("name")),
        context=SpanContext(trace_id, span_id, is_remote=False),
        parent=SpanContext(trace_id, parent_id, is_remote=True) if parent_id else None,
        resource=resource,
        attributes=_attributes(raw.get("attributes")),
        events=tuple(_events(raw.get("events"))),
        links=tuple(_links(raw.get("links"))),
        kind=SpanKind[_KINDS.get(cast("Any", _hashable(raw.get("kind"))), "INTERNAL")],
        status=_status(raw.get("status")),
        start_time=started_ns,
        end_time=ended_ns,
        instrumentation_scope=scope,
    )


def _resource(raw: object) -> Resource:
    name = _attributes(_object(raw).get("attributes")).get(semconv.SERVICE_NAME)
    # Only the service's name is read of it, and the SDK would complain of values it does not know.
    return Resource({semconv.SERVICE_NAME: name} if isinstance(name, str) else {})


def _status(raw: object) -> Status:
    said = _object(raw)
    code = _STATUSES.get(_hashable(said.get("code")), StatusCode.UNSET)
    # Only an error may be described; the SDK warns of others.
    described = _text(said.get("message")) if code is StatusCode.ERROR else ""
    return Status(code, described or None)


def _events(raw: object) -> Iterator[Event]:
    for event in _objects(raw):
        yield Event(
            _text(event.get("name")),
            _attributes(event.get("attributes")),
            _nanoseconds(event.get("timeUnixNano")) or 0,
        )


def _links(raw: object) -> Iterator[Link]:
    for link in _objects(raw):
        trace_id = _id(link.get("traceId"), _TRACE_DIGITS)
        span_id = _id(link.get("spanId"), _SPAN_DIGITS)
        if trace_id is not None and span_id is not None:
            attributes = _attributes(link.get("attributes"))
            yield Link(SpanContext(trace_id, span_id, is_remote=True), attributes)


def _attributes(raw: object, depth: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for pair in _objects(raw):
        key = pair.get("key")
        value = _value(pair.get("value"), depth)
        if isinstance(key, str) and value is not None:
            found[key] = value
    return found


def _value(raw: object, depth: int) -> Any:
    """Return an ``AnyValue``; one that is malformed is null, and costs no other."""
    if depth > _DEEPEST:
        return "…"
    kind, said = next(iter(_object(raw).items()), ("", None))
    match kind:
        case "stringValue" if isinstance(said, str):
            value: Any = said
        case "boolValue" if isinstance(said, bool):
            value = said
        case "intValue" | "doubleValue":
            value = _number(said, whole=kind == "intValue")
        case "arrayValue":
            items = _list(_object(said).get("values"))
            value = tuple(_value(item, depth + 1) for item in items)
        case "kvlistValue":
            value = _attributes(_object(said).get("values"), depth + 1)
        case "bytesValue":
            value = _bytes(said)
        case _:
            value = None
    return value


def _number(said: object, *, whole: bool) -> float | int | None:
    """Return a number; OTLP writes 64-bit integers as text, and so NaN and the infinities."""
    if isinstance(said, bool) or not isinstance(said, int | float | str):
        return None
    try:
        if not whole:
            return float(said)
        return int(said)
    except (ValueError, OverflowError):
        return None


def _bytes(said: object) -> bytes | None:
    try:
        return base64.b64decode(said, validate=True) if isinstance(said, str) else None
    except ValueError:
        return None


def _id(said: object, digits: int) -> int | None:
    """Return an id; null where it is none. All zeros is OpenTelemetry's word for none."""
    if not isinstance(said, str):
        return None
    if len(said) == digits and _HEX.fullmatch(said):
        return int(said, 16) or None
    # Plain protobuf JSON, as many scripts write it, has base64 where OTLP has hex.
    raw = _bytes(said) or b""
    return int.from_bytes(raw, "big") or None if len(raw) * 2 == digits else None


def _nanoseconds(said: object) -> int | None:
    value = _number(said, whole=True)
    return int(value) if value is not None and 0 < value < _MAX_NS else None


def _text(said: object) -> str:
    return said if isinstance(said, str) else ""


def _hashable(said: object) -> object:
    return said if isinstance(said, int | str) else None


def _list(said: object) -> list[object]:
    return cast("list[object]", said) if isinstance(said, list) else []


def _object(said: object) -> dict[str, object]:
    return cast("dict[str, object]", said) if isinstance(said, dict) else {}


def _objects(said: object) -> Iterator[dict[str, object]]:
    for item in _list(said):
        if isinstance(item, dict):
            yield cast("dict[str, object]", item)
