"""Turns a finished span, ours or anybody's, into the record the ledger keeps of it.

The same function serves the span processor (others' spans) and the exporter (all spans), so both
say the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import orjson

from spanflow import semconv
from spanflow.capture.content import captures_content
from spanflow.capture.dialects import is_content
from spanflow.capture.events import json_payload
from spanflow.capture.payload import clean, jsonable, payload_of
from spanflow.capture.runtime import SCOPE_NAME
from spanflow.tally import Usage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opentelemetry.sdk.trace import ReadableSpan

    from spanflow.capture.dialects import Reading

__all__ = ["call_fields", "record_of", "usage_fields"]

_TURN_FIELDS = {
    semconv.ENGAGEMENT_NAME: "name",
    semconv.TURN_KIND: "turn_kind",
    semconv.TURN_ON_THREAD: "on_thread",
    semconv.TURN_GOALS: "goals",
    semconv.TURN_OUTCOME: "status",
    semconv.GRAPH_VERSION: "graph_version",
    semconv.GEN_AI_CONVERSATION_ID: "conversation_id",
    semconv.USER_ID: "user_id",
    semconv.SESSION_ID: "session_id",
}
_STEP_FIELDS = {
    semconv.STEP_NAME: "name",
    semconv.STEP_PATH: "path",
    semconv.STEP_STATUS: "status",
    semconv.STEP_VISIT: "visit",
    semconv.STEP_ATTEMPTS: "attempts",
    semconv.STEP_SUPERSTEP: "superstep",
    semconv.STEP_IS_GLOBAL: "is_global",
    semconv.STEP_GOAL: "goal",
    semconv.STEP_PARENT_ID: "parent_step_id",
    semconv.STEP_TOOLS_AVAILABLE: "tools_available",
    semconv.GEN_AI_AGENT_NAME: "agent_name",
}
_WORKFLOW_FIELDS = {
    semconv.GEN_AI_WORKFLOW_NAME: "name",
    semconv.TURN_OUTCOME: "status",
    semconv.GRAPH_VERSION: "graph_version",
}
_SHARED_FIELDS = {
    semconv.ENGAGEMENT_ID: "engagement_id",
    semconv.TURN_ID: "turn_id",
    semconv.STEP_ID: "step_id",
    semconv.ERROR_TYPE: "error_type",
}
_NOT_REPEATED = {
    semconv.GEN_AI_OPERATION_NAME,
    semconv.GEN_AI_PROVIDER_NAME,
    semconv.GEN_AI_REQUEST_MODEL,
    semconv.GEN_AI_RESPONSE_MODEL,
    semconv.GEN_AI_RESPONSE_ID,
    semconv.GEN_AI_TOOL_NAME,
    semconv.GEN_AI_TOOL_CALL_ID,
    semconv.GEN_AI_TOOL_ARGUMENTS,
    semconv.GEN_AI_TOOL_RESULT,
    semconv.GEN_AI_USAGE_INPUT_TOKENS,
    semconv.GEN_AI_USAGE_OUTPUT_TOKENS,
    semconv.REPLAYED,
    semconv.CALL_STATUS,
    semconv.USAGE_TOTAL_TOKENS,
    semconv.USAGE_FLAGS,
    *_SHARED_FIELDS,
}


def record_of(
    span: ReadableSpan, *, source: str, reading: Reading | None, limit: int
) -> dict[str, Any] | None:
    """Return the record of a finished span, or None where it is none of the ledger's business.

    Args:
        span: The span, ended.
        source: ``capture`` or ``exporter``.
        reading: What :func:`~spanflow.capture.dialects.read_span` made of it.
        limit: The longest payload kept, in bytes.

    What was said (prompts, answers, arguments, results) is kept only where content capture is on,
    whoever wrote it on the span.
    """
    attributes: Mapping[str, Any] = span.attributes or {}
    content = captures_content()
    context = span.get_span_context()
    if context is None or (reading is None and semconv.ENGAGEMENT_ID not in attributes):
        return None
    scope = span.instrumentation_scope.name if span.instrumentation_scope is not None else ""
    record: dict[str, Any] = {
        "source": source,
        "phase": "end",
        "trace_id": f"{context.trace_id:032x}",
        "span_id": f"{context.span_id:016x}",
        "parent_span_id": f"{span.parent.span_id:016x}" if span.parent is not None else None,
        "started_ns": span.start_time,
        "ended_ns": span.end_time,
        "scope": scope,
        "service_name": span.resource.attributes.get(semconv.SERVICE_NAME),
    }
    _copy(attributes, _SHARED_FIELDS, record)
    if span.links:
        record["links"] = [
            {"trace_id": f"{c.trace_id:032x}", "span_id": f"{c.span_id:016x}"}
            for c in (link.context for link in span.links)
        ]
    if scope == SCOPE_NAME and reading is None:
        _ours(span, attributes, record)
        return record
    if reading is not None:
        record |= call_fields(reading, limit, content=content)
        record |= _said_by_us(attributes, reading)
    else:
        record |= {"kind": "span", "name": clean(span.name)}
    failed = span.status.status_code.name == "ERROR"
    record["status"] = attributes.get(semconv.CALL_STATUS) or ("error" if failed else "ok")
    if failed:
        record["error_message"] = clean(span.status.description or "", limit) or None
    record["attributes"] = _others(attributes, limit, content=content) or None
    record["events"] = _events(span, content=content)
    return record


def call_fields(reading: Reading, limit: int, *, content: bool) -> dict[str, Any]:
    """Return the fields of a call's record that a reading of its span gives."""
    fields: dict[str, Any] = {
        "kind": reading.kind,
        "name": reading.tool_name,
        "operation": reading.operation,
        "provider": reading.provider,
        "model": reading.model,
        "request_model": reading.request_model,
        "response_id": reading.response_id,
        "call_id": reading.call_id,
        "agent_name": reading.agent_name,
        "user_id": reading.user_id,
        "session_id": reading.session_id,
        "conversation_id": reading.conversation_id,
        "time_to_first_token_ms": reading.time_to_first_token_ms,
        **usage_fields(reading.usage),
    }
    for name in ("arguments", "result") if content else ():
        value = getattr(reading, name)
        if value is not None:
            fields[name] = payload_of(value, limit).text
    return fields


def _said_by_us(attributes: Mapping[str, Any], reading: Reading) -> dict[str, Any]:
    """Return the usage with what we wrote beside it: a total that is not the sum, and flags."""
    total = attributes.get(semconv.USAGE_TOTAL_TOKENS)
    flags = attributes.get(semconv.USAGE_FLAGS)
    if reading.kind not in ("llm", "embeddings") or (total is None and flags is None):
        return {}
    usage = usage_fields(reading.usage)
    ours = cast("tuple[object, ...]", flags) if isinstance(flags, tuple) else ()
    noted: list[object] = [*(usage.pop("usage_flags") or ()), *ours]
    if total is not None:
        usage["total_tokens"] = total
    return usage_fields(Usage.of(**usage, flags=map(str, noted)))


def usage_fields(usage: Any) -> dict[str, Any]:
    """Return the fields of a record that say what a call spent."""
    return {
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cache_read_tokens": usage.cache_read_tokens,
        "cache_write_tokens": usage.cache_write_tokens,
        "reasoning_tokens": usage.reasoning_tokens,
        "total_tokens": usage.total_tokens,
        "cost_usd": usage.cost_usd,
        "usage_flags": list(usage.flags) or None,
    }


def _copy(attributes: Mapping[str, Any], names: Mapping[str, str], record: dict[str, Any]) -> None:
    for key, name in names.items():
        value = attributes.get(key)
        if value is not None:
            record[name] = list(value) if isinstance(value, tuple) else value  # pyright: ignore[reportUnknownArgumentType]


def _ours(span: ReadableSpan, attributes: Mapping[str, Any], record: dict[str, Any]) -> None:
    """Read back what capture wrote on a turn, a step or a nested graph."""
    if semconv.TURN_KIND in attributes:
        record["kind"] = "turn"
        _copy(attributes, _TURN_FIELDS, record)
        text = attributes.get(semconv.ENGAGEMENT_METADATA)
        if isinstance(text, str):
            record["metadata"] = _parsed(text)
    elif semconv.STEP_NAME in attributes:
        record["kind"] = "step"
        _copy(attributes, _STEP_FIELDS, record)
        record["step_id"] = record["span_id"]
        if semconv.STEP_CACHED in attributes:
            record["attributes"] = {semconv.STEP_CACHED: True}
    else:
        record["kind"] = "workflow"
        _copy(attributes, _WORKFLOW_FIELDS, record)
    if record.get("status") == "failed":
        record["error_message"] = span.status.description
    record["events"] = _events(span, content=True)


def _events(span: ReadableSpan, *, content: bool) -> list[dict[str, Any]] | None:
    """Return a span's events as a record holds them; what was said only where `content` is kept."""
    found: list[dict[str, Any]] = []
    for event in span.events:
        attributes: Mapping[str, Any] = event.attributes or {}
        if not content:
            attributes = {key: value for key, value in attributes.items() if not is_content(key)}
        if event.name == semconv.EXCEPTION_EVENT:
            found.append(
                {
                    "kind": "error",
                    "name": attributes.get(semconv.EXCEPTION_TYPE) or semconv.EXCEPTION_EVENT,
                    "at_ns": event.timestamp,
                    "payload": {
                        "message": attributes.get(semconv.EXCEPTION_MESSAGE),
                        "stack": attributes.get(semconv.EXCEPTION_STACKTRACE),
                    },
                }
            )
            continue
        text = attributes.get(semconv.EVENT_PAYLOAD)
        found.append(
            {
                "kind": attributes.get(semconv.EVENT_KIND) or "log",
                "name": event.name,
                "at_ns": event.timestamp,
                "payload": _parsed(text)
                if isinstance(text, str)
                else jsonable(dict(attributes)) or None,
            }
        )
    return found or None


def _others(attributes: Mapping[str, Any], limit: int, *, content: bool) -> dict[str, Any]:
    return {
        clean(key): json_payload(value, limit)
        for key, value in attributes.items()
        if key not in _NOT_REPEATED and (content or not is_content(key))
    }


def _parsed(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text
