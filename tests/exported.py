"""Spans as the Collector's ClickHouse exporter writes them, in a ClickHouse of the tests' own."""

from __future__ import annotations

import base64
import json
import math
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from opentelemetry.sdk.trace import ReadableSpan

_SERVER = Path(__file__).with_name("clickhouse_server.py")
# The exporter's own table; how it compresses and indexes it makes no answer another.
_COLUMNS = """
    Timestamp DateTime64(9), TraceId String, SpanId String, ParentSpanId String, TraceState String,
    SpanName LowCardinality(String), SpanKind LowCardinality(String),
    ServiceName LowCardinality(String),
    ResourceAttributes Map(LowCardinality(String), String), ScopeName String, ScopeVersion String,
    SpanAttributes Map(LowCardinality(String), String), Duration UInt64,
    StatusCode LowCardinality(String), StatusMessage String,
    Events Nested (
        Timestamp DateTime64(9), Name LowCardinality(String),
        Attributes Map(LowCardinality(String), String)
    ),
    Links Nested (
        TraceId String, SpanId String, TraceState String,
        Attributes Map(LowCardinality(String), String)
    )
"""
_ESCAPED = {letter: f"\\u{ord(letter):04x}" for letter in "<>&\u2028\u2029"}


class Exported:
    """Tables of spans in a ClickHouse, made and filled as the exporter does.

    Args:
        folder: Where that ClickHouse keeps them.
    """

    def __init__(self, folder: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(_SERVER), str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())

    def make(self, table: str, spans: Iterable[ReadableSpan] = ()) -> str:
        """Make a table anew, and return the address that engines open it by."""
        self.run(f"DROP TABLE IF EXISTS default.{table} SYNC")
        self.run(
            f"CREATE TABLE default.{table} ({_COLUMNS}) ENGINE = MergeTree "
            "PARTITION BY toDate(Timestamp) ORDER BY (ServiceName, SpanName, toDateTime(Timestamp))"
        )
        self.add(table, spans)
        return f"clickhouse://127.0.0.1:{self.port}/default?table={table}"

    def add(self, table: str, spans: Iterable[ReadableSpan]) -> None:
        """Write spans, each as one row."""
        rows = "\n".join(json.dumps(row_of(span)) for span in spans)
        if rows:
            self.run(f"INSERT INTO default.{table} FORMAT JSONEachRow {rows}")

    def run(self, statement: str) -> str:
        """Run a statement, and return what it printed."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/", data=statement.encode())
        try:
            with urllib.request.urlopen(request, timeout=240) as answer:  # noqa: S310
                return answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                raise AssertionError(error.read().decode()) from None

    def close(self) -> None:
        """End the server."""
        self._process.communicate(timeout=240)


def row_of(span: ReadableSpan) -> dict[str, Any]:
    """Return the exporter's row of a span."""
    context = span.get_span_context()
    scope = span.instrumentation_scope
    resource = span.resource.attributes
    return {
        "Timestamp": _time(span.start_time),
        "TraceId": f"{context.trace_id:032x}",
        "SpanId": f"{context.span_id:016x}",
        "ParentSpanId": f"{span.parent.span_id:016x}" if span.parent is not None else "",
        "TraceState": "",
        "SpanName": span.name,
        "SpanKind": span.kind.name.title(),
        "ServiceName": resource.get("service.name", ""),
        "ResourceAttributes": _map(resource),
        "ScopeName": scope.name if scope else "",
        "ScopeVersion": (scope.version or "") if scope else "",
        "SpanAttributes": _map(span.attributes or {}),
        "Duration": max(span.end_time - span.start_time, 0),
        "StatusCode": span.status.status_code.name.title(),
        "StatusMessage": span.status.description or "",
        "Events.Timestamp": [_time(event.timestamp) for event in span.events],
        "Events.Name": [event.name for event in span.events],
        "Events.Attributes": [_map(event.attributes or {}) for event in span.events],
        "Links.TraceId": [f"{link.context.trace_id:032x}" for link in span.links],
        "Links.SpanId": [f"{link.context.span_id:016x}" for link in span.links],
        "Links.TraceState": ["" for _ in span.links],
        "Links.Attributes": [_map(link.attributes or {}) for link in span.links],
    }


def as_text(value: Any) -> str:
    """Return an attribute as the Collector's ``Value.AsString`` does."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, float):
        return _float(value)
    if isinstance(value, tuple | list):
        text = json.dumps(list(value), ensure_ascii=False, separators=(",", ":"))
        # Go's JSON can stand in a page.
        return "".join(_ESCAPED.get(letter, letter) for letter in text)
    return str(value)


def _time(ns: int) -> str:
    return f"{ns // 10**9}.{ns % 10**9:09d}"


def _map(attributes: Mapping[str, Any]) -> dict[str, str]:
    return {key: as_text(value) for key, value in attributes.items()}


def _float(value: float) -> str:
    """Return a float as JSON in Go has it: with an exponent where it is very small or large."""
    if not math.isfinite(value):
        return "json: unsupported value"
    if value and not 1e-6 <= abs(value) < 1e21:
        digits, _, exponent = f"{value!r}".partition("e")
        return f"{digits.removesuffix('.0')}e{int(exponent):+d}" if exponent else repr(value)
    return f"{value:.20f}".rstrip("0").rstrip(".") if "e" in repr(value) else _plain(value)


def _plain(value: float) -> str:
    return repr(value).removesuffix(".0")
