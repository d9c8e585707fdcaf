"""Turns a finished span, ours or anybody's, into the record the ledger keeps of it.

The same function serves the span processor (others' spans) and the exporter (all spans), so both
say the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from spanflow import semconv
from spanflow.capture.content import captures_content
from spanflow.capture.dialects import is_content, told_usage
from spanflow.capture.dialects.roles import role_of, told_name
from spanflow.capture.payload import (
    clean,
    clean_path,
    free_text,
    identifier,
    json_payload,
    jsonable,
    payload_of,
)
from spanflow.capture.runtime import SCOPE_NAME
from spanflow.capture.told import ended_events, ending_of, events_of, parsed, word
from spanflow.spending import Usage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.trace import Link

    from spanflow.capture.dialects import Reading

__all__ = ["call_fields", "record_of", "usage_fields"]

_TURN_FIELDS = {
    semconv.ENGAGEMENT_NAME: "name",
    semconv.TURN_KIND: "turn_kind",
    semconv.TURN_ON_THREAD: "on_thread",
    semconv.TURN_GOALS: "goals",
    semconv.TURN_OUTCOME: "status",
    semconv.TURN_ANSWERS: "answers",
    semconv.TURN_RESOLUTION: "resolution",
    semconv.TURN_ORIGIN_ID: "origin_turn_id",
    semconv.TURN_ORIGIN_SUPERSTEP: "origin_superstep",
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
    semconv.STEP_EXECUTION_ID: "execution_id",
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
    semconv.CALL_CALLER: "caller",
}
_READ = {
    "engagement_id": identifier,
    "user_id": identifier,
    "session_id": identifier,
    "conversation_id": identifier,
    "path": clean_path,
    "goals": clean_path,
    "goal": clean_path,
}
"""How a text of these fields is read where it is no plain name."""
_KEPT = {
    semconv.STEP_CACHED,
    semconv.STREAM_CHUNKS,
    semconv.STREAM_FIRST_CHUNK_MS,
    semconv.TURN_INTERRUPT_IDS,
}
"""Attributes of turns and steps that their records repeat, beside the totals."""
_WORDS = {
    "turn_id",
    "step_id",
    "parent_step_id",
    "execution_id",
    "origin_turn_id",
    "answers",
    "status",
    "turn_kind",
    "graph_version",
}
"""Fields that hold ids and words of our own."""
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
    semconv.CALL_ATTEMPT,
    semconv.AGENT_NAME,
    semconv.USAGE_TOTAL_TOKENS,
    semconv.USAGE_FLAGS,
    semconv.USAGE_COST_USD,
    *_SHARED_FIELDS,
}


def record_of(
    span: ReadableSpan,
    *,
    source: str,
    reading: Reading | None,
    limit: int,
    attributes: Mapping[str, Any] | None = None,
) -> dict[str, Any] | None:
    """Return the record of a finished span, or None where it is none of the ledger's business.

    Args:
        span: The span, ended.
        source: ``capture``, ``exporter`` or ``otlp``.
        reading: What :func:`~spanflow.capture.dialects.read_span` made of it.
        limit: The longest payload kept, in bytes.
        attributes: The span's, where more is known than the SDK kept of them.

    What was said (prompts, answers, arguments, results) is kept only where content capture is on,
    whoever wrote it on the span.
    """
    if attributes is None:
        attributes = span.attributes or {}
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
        "service_name": _text(span.resource.attributes.get(semconv.SERVICE_NAME)),
    }
    _copy(attributes, _SHARED_FIELDS, record)
    if scope == SCOPE_NAME and record.get("error_type"):
        # util-genai writes the class with its module; our records name the class alone.
        record["error_type"] = record["error_type"].rpartition(".")[2]
    if span.links:
        record["links"] = [
            {
                "trace_id": f"{link.context.trace_id:032x}",
                "span_id": f"{link.context.span_id:016x}",
                "kind": _text((link.attributes or {}).get(semconv.LINK_KIND)),
            }
            for link in span.links
            if not _is_cause(link)
        ] or None
    ours = scope == SCOPE_NAME
    # Another language's turns and steps, told in our words, are turns and steps. So they are where
    # somebody wrote a call's numbers onto them.
    if (
        semconv.TURN_KIND in attributes
        or semconv.STEP_NAME in attributes
        or (ours and semconv.GEN_AI_WORKFLOW_NAME in attributes)
    ):
        _ours(span, attributes, record, limit, content=content or ours)
        return record
    if reading is not None:
        record |= call_fields(reading, limit, content=content)
        record["agent_name"] = record["agent_name"] or _text(attributes.get(semconv.AGENT_NAME))
        attempt = attributes.get(semconv.CALL_ATTEMPT)
        if isinstance(attempt, int):
            record["attempt"] = attempt
        record |= _said_by_us(attributes, reading)
    else:
        # Most spans tell none; an agent's tells what it believes its calls spent.
        record |= {"kind": "span", "name": clean(span.name), **usage_fields(told_usage(attributes))}
        record["agent_name"] = _text(attributes.get(semconv.GEN_AI_AGENT_NAME))
    failed = span.status.status_code.name == "ERROR"
    status = attributes.get(semconv.CALL_STATUS)
    record["status"] = word(status) if status else "error" if failed else "ok"
    if failed:
        record["error_message"] = free_text(span.status.description or "", limit) or None
    record["attributes"] = _others(attributes, limit, content=content) or None
    record["events"] = events_of(span, limit, content=content)
    return record


def call_fields(reading: Reading, limit: int, *, content: bool) -> dict[str, Any]:
    """Return the fields of a call's record that a reading of its span gives."""
    fields: dict[str, Any] = {
        "kind": reading.kind,
        "name": _text(reading.tool_name),
        "operation": reading.operation,
        "provider": _text(reading.provider),
        "model": _text(reading.model),
        "request_model": _text(reading.request_model),
        "response_id": _text(reading.response_id),
        "call_id": _text(reading.call_id),
        "agent_name": _text(reading.agent_name),
        "user_id": _id(reading.user_id),
        "session_id": _id(reading.session_id),
        "conversation_id": _id(reading.conversation_id),
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
    noted: list[object] = [*(usage.pop("usage_flags") or ()), *map(word, ours)]
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
        read = word if name in _WORDS else _READ.get(name, clean)
        if isinstance(value, str):
            record[name] = read(value)
        elif isinstance(value, tuple):
            items = cast("tuple[object, ...]", value)
            record[name] = [read(item) if isinstance(item, str) else item for item in items]
        elif value is not None:
            record[name] = value


def _text(value: object) -> str | None:
    return clean(value) if isinstance(value, str) else None


def _id(value: str | None) -> str | None:
    return identifier(value) if value is not None else None


def _ours(
    span: ReadableSpan,
    attributes: Mapping[str, Any],
    record: dict[str, Any],
    limit: int,
    *,
    content: bool,
) -> None:
    """Read back what capture wrote on a turn, a step or a nested graph."""
    events = None
    if semconv.TURN_KIND in attributes:
        record["kind"] = "turn"
        _copy(attributes, _TURN_FIELDS, record)
        text = attributes.get(semconv.ENGAGEMENT_METADATA)
        if isinstance(text, str):
            record["metadata"] = jsonable(parsed(text), limit)
    elif semconv.STEP_NAME in attributes:
        record["kind"] = "step"
        _copy(attributes, _STEP_FIELDS, record)
        record["step_id"] = record["span_id"]
        causes = [f"{link.context.span_id:016x}" for link in span.links if _is_cause(link)]
        earlier = attributes.get(semconv.STEP_TRIGGERED_BY_EXECUTIONS)
        if isinstance(earlier, tuple):
            causes += [clean(one) for one in cast("tuple[object, ...]", earlier)]
        if causes:
            record["triggered_by"] = causes
        if "status" not in record and record["scope"] != SCOPE_NAME:
            # Somebody else's span that is a step: nobody can write on it as it ends.
            record["attempts"] = 1
            ending = ending_of(span, attributes, limit)
            record["status"], error = ending
            record["error_type"], record["error_message"] = error or (None, None)
            events = ended_events(span, ending, limit, content=content)
            if role_of(span.name, attributes) == "agent":
                _take_name(record, told_name("agent", attributes))
                record["agent_name"] = record["name"]
    else:
        record["kind"] = "workflow"
        _copy(attributes, _WORKFLOW_FIELDS, record)
    record["attributes"] = {
        key: json_payload(value, limit)
        for key, value in attributes.items()
        if key in _KEPT or key.startswith(semconv.USAGE_PREFIX)
    } or None
    if record.get("status") == "failed" and "error_message" not in record:
        record["error_message"] = free_text(span.status.description or "", limit) or None
    if events is None:
        events = events_of(span, limit, content=content)
    record["events"] = events or None


def _take_name(record: dict[str, Any], told: str | None) -> None:
    """Name a step as its span does at its end; as it started it may have told no name."""
    name = clean(told) if told is not None else record["name"]
    if record.get("path", "").endswith(record["name"]):
        record["path"] = record["path"].removesuffix(record["name"]) + name
    record["name"] = name


def _is_cause(link: Link) -> bool:
    """Tell whether a link is one of ours from a step to one that caused it."""
    return (link.attributes or {}).get(semconv.LINK_KIND) == semconv.LINK_TRIGGERED_BY


def _others(attributes: Mapping[str, Any], limit: int, *, content: bool) -> dict[str, Any]:
    return {
        clean(key): json_payload(value, limit)
        for key, value in attributes.items()
        if key not in _NOT_REPEATED and (content or not is_content(key))
    }
