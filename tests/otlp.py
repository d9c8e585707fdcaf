"""Spans as the OpenTelemetry Collector's `file` exporter writes them: one JSON request a line."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

from google.protobuf import json_format
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opentelemetry.sdk.trace import ReadableSpan

_IDS = ("traceId", "spanId", "parentSpanId")


def request(spans: Sequence[ReadableSpan]) -> dict[str, Any]:
    """Return one export request in OTLP's JSON: protobuf's, but for the ids, which are hex."""
    return _with_hex_ids(json.loads(json_format.MessageToJson(encode_spans(spans))))


def lines(batches: Sequence[Sequence[ReadableSpan]]) -> bytes:
    """Return a line of JSON for each batch."""
    return b"".join(json.dumps(request(batch)).encode() + b"\n" for batch in batches)


def _with_hex_ids(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: base64.b64decode(item).hex() if key in _IDS else _with_hex_ids(item)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [_with_hex_ids(item) for item in value]
    return value
