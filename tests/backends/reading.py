"""Spans as the back ends give them back, in one shape: from the Collector's file, Jaeger and Tempo.

Only reading: what must be true of the spans, the tests say.
"""

from __future__ import annotations

import base64
import json
import time
import urllib.parse
import urllib.request
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PATIENCE_S = 120


@dataclass(frozen=True)
class Span:
    """One span as a back end has it, attributes flattened to Python values."""

    name: str
    trace_id: str
    span_id: str
    parent_span_id: str | None
    status: int
    """0 where nothing was said, 2 for an error."""
    started_us: int
    ended_us: int
    attributes: dict[str, Any]
    links: list[str] = field(default_factory=list[str])
    """Ids of the spans it is linked to."""
    events: list[str] = field(default_factory=list[str])


def within_patience(ask: Callable[[], Any], enough: Callable[[Any], bool]) -> Any:
    """Ask until the answer is enough; what is missing after a while is missing."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        answer = ask()
        if enough(answer) or time.monotonic() > deadline:
            return answer
        time.sleep(0.2)


def get(address: str, path: str, **asked: Any) -> Any:
    """Ask a server for JSON."""
    question = urllib.parse.urlencode(asked)
    with urllib.request.urlopen(f"http://{address}{path}?{question}", timeout=240) as answer:
        return json.load(answer)


def from_file(file: Path) -> Iterator[Span]:
    """Read what a Collector's `file` exporter has written so far."""
    if not file.exists():
        return
    for line in file.read_text(encoding="utf-8").splitlines(keepends=True):
        if not line.endswith("\n"):  # still being written
            return
        yield from _from_otlp(json.loads(line), str)


def _from_otlp(told: dict[str, Any], id_of: Callable[[str], str]) -> Iterator[Span]:
    for resource in told["resourceSpans"]:
        for scope in resource["scopeSpans"]:
            for raw in scope["spans"]:
                yield Span(
                    name=raw["name"],
                    trace_id=id_of(raw["traceId"]),
                    span_id=id_of(raw["spanId"]),
                    parent_span_id=id_of(raw.get("parentSpanId") or "") or None,
                    status={"STATUS_CODE_ERROR": 2, 2: 2}.get(raw.get("status", {}).get("code"), 0),
                    started_us=int(raw["startTimeUnixNano"]) // 1_000,
                    ended_us=int(raw["endTimeUnixNano"]) // 1_000,
                    attributes={i["key"]: _value(i["value"]) for i in raw.get("attributes", ())},
                    links=[id_of(link["spanId"]) for link in raw.get("links", ())],
                    events=[event["name"] for event in raw.get("events", ())],
                )


def _value(raw: dict[str, Any]) -> Any:
    """A value of OTLP's JSON: 64-bit integers are written as text there."""
    [(kind, value)] = raw.items()
    if kind == "intValue":
        return int(value)
    if kind == "arrayValue":
        return [_value(item) for item in value.get("values", ())]
    return value


class Jaeger:
    """What a Jaeger answers, by the interface that its own page uses."""

    def __init__(self, address: str) -> None:
        self._address = address

    def traces(self, service: str, **attributes: str) -> list[list[Span]]:
        """Return the traces in which one span has all these attributes (`.` written as `__`)."""
        tags = json.dumps({key.replace("__", "."): value for key, value in attributes.items()})
        found = get(self._address, "/api/traces", service=service, tags=tags, limit=1000)
        return [[_from_jaeger(raw) for raw in trace["spans"]] for trace in found["data"]]


def _from_jaeger(raw: dict[str, Any]) -> Span:
    attributes = {
        tag["key"]: json.loads(tag["value"]) if _is_list(tag) else tag["value"]
        for tag in raw["tags"]
    }
    parents = [r["spanID"] for r in raw["references"] if r["refType"] == "CHILD_OF"]
    return Span(
        name=raw["operationName"],
        trace_id=raw["traceID"].zfill(32),
        span_id=raw["spanID"],
        parent_span_id=parents[0] if parents else None,
        status=2 if attributes.get("otel.status_code") == "ERROR" else 0,
        started_us=raw["startTime"],
        ended_us=raw["startTime"] + raw["duration"],
        attributes=attributes,
        links=[r["spanID"] for r in raw["references"] if r["refType"] == "FOLLOWS_FROM"],
        events=[
            str(item["value"])
            for log in raw["logs"]
            for item in log["fields"]
            if item["key"] == "event"
        ],
    )


def _is_list(tag: dict[str, Any]) -> bool:
    """Whether Jaeger wrote a list as JSON: its attributes know no lists."""
    return tag["type"] == "string" and tag["value"].startswith("[") and tag["value"].endswith("]")


class Tempo:
    """What a Tempo answers."""

    def __init__(self, address: str) -> None:
        self._address = address

    def traces(self, service: str, **attributes: str) -> list[list[Span]]:
        """Return the traces in which one span has all these attributes (`.` written as `__`)."""
        wanted = [
            f"span.{key.replace('__', '.')} = {json.dumps(v)}" for key, v in attributes.items()
        ]
        told = " && ".join([f"resource.service.name = {json.dumps(service)}", *wanted])
        return [self.trace(found["traceID"]) for found in self.search(f"{{ {told} }}")]

    def search(self, question: str) -> list[dict[str, Any]]:
        """Return what a TraceQL question finds, a dictionary a trace."""
        answer = get(self._address, "/api/search", q=question, limit=1000, spss=100)
        return answer.get("traces") or []

    def trace(self, trace_id: str) -> list[Span]:
        """Return the spans of one trace."""
        told = get(self._address, f"/api/v2/traces/{trace_id.zfill(32)}")
        return list(_from_otlp(told["trace"], lambda text: base64.b64decode(text).hex()))

    def counted(self, question: str, since_s: float) -> dict[str, float]:
        """Return what a TraceQL metric adds up to since a time, by its only label."""
        asked = {"start": int(since_s), "end": int(time.time()) + 1, "step": "1s"}
        answer = get(self._address, "/api/metrics/query_range", q=question, **asked)
        return {
            next(iter(series["labels"][0]["value"].values())): sum(
                sample.get("value", 0) for sample in series["samples"]
            )
            for series in answer.get("series") or ()
        }
