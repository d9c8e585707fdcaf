"""What a finished span, anybody's, tells of what happened in it and of how its work ended.

It reads and writes nothing; whose span it is and what it stands for is for others to say.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import orjson

from spanflow import semconv
from spanflow.capture.dialects import is_content
from spanflow.capture.events import KINDS
from spanflow.capture.payload import clean, free_text, json_payload, tail_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opentelemetry.sdk.trace import ReadableSpan

__all__ = ["ended_events", "ending_of", "events_of", "outcome_of", "parsed", "word"]

_WORD = re.compile(r"[0-9a-f]{1,32}|[a-z_]{1,32}")
_CANCELLED = "CancelledError"
"""The exception by which asyncio, and whoever follows it, ends work that nobody wants any more."""
_CONTROL_FLOW = {
    "langgraph.errors.GraphInterrupt": "waiting",
    "langgraph.errors.NodeInterrupt": "waiting",
    "langgraph.errors.ParentCommand": "completed",
}
"""Exceptions, by their full names, with which nothing has gone wrong."""


def word(value: object) -> str:
    """Return an id or a word of ours; on a span from elsewhere anything may stand there."""
    return value if isinstance(value, str) and _WORD.fullmatch(value) else clean(value)


def outcome_of(error: object) -> str | None:
    """Return how work ends that the exception of this full name leaves; None for a failure."""
    if not isinstance(error, str):
        return None
    if error.rpartition(".")[2] == _CANCELLED:
        return "cancelled"
    return _CONTROL_FLOW.get(error)


def ending_of(
    span: ReadableSpan, attributes: Mapping[str, Any], limit: int
) -> tuple[str, tuple[str, str] | None]:
    """Return how the work ended that somebody else's span stands for, as far as the span tells.

    Returns:
        ``completed``, ``failed``, ``waiting`` or ``cancelled``; and type and message of an error.
    """
    raised: Mapping[str, Any] = {}
    for event in span.events:
        if event.name == semconv.EXCEPTION_EVENT:
            raised = event.attributes or {}
    code = span.status.status_code.name
    outcome = outcome_of(raised.get(semconv.EXCEPTION_TYPE)) if code != "OK" else None
    if outcome is not None or code != "ERROR":
        return outcome or "completed", None
    said = _text(attributes.get(semconv.ERROR_TYPE))
    outcome = outcome_of(said)
    if outcome is not None:
        return outcome, None
    kind = clean(raised.get(semconv.EXCEPTION_TYPE) or "").rpartition(".")[2]
    message = raised.get(semconv.EXCEPTION_MESSAGE) or span.status.description or ""
    return "failed", (said or kind or semconv.ERROR_TYPE_OTHER, free_text(message, limit))


def ended_events(
    span: ReadableSpan,
    ending: tuple[str, tuple[str, str] | None],
    limit: int,
    *,
    content: bool,
) -> list[dict[str, Any]]:
    """Return the events of somebody else's span that is a step.

    An error that no event tells is added; control flow and cancellation are none.

    Args:
        span: The span, ended.
        ending: How its work ended, as :func:`ending_of` has it.
        limit: The longest payload kept, in bytes.
        content: Whether what was said is kept.
    """
    error = ending[1]
    told = events_of(span, limit, content=content) or []
    events = [e for e in told if e["kind"] != "error" or outcome_of(e["name"]) is None]
    if error is not None and not any(event["kind"] == "error" for event in events):
        payload = {"message": error[1], "stack": None}
        added = {"kind": "error", "name": error[0], "at_ns": span.end_time, "payload": payload}
        return [*events, added]
    return events


def events_of(span: ReadableSpan, limit: int, *, content: bool) -> list[dict[str, Any]] | None:
    """Return a span's events as a record holds them; what was said only where `content` is kept."""
    found: list[dict[str, Any]] = []
    for event in span.events:
        attributes: Mapping[str, Any] = event.attributes or {}
        if not content:
            attributes = {key: value for key, value in attributes.items() if not is_content(key)}
        if event.name == semconv.EXCEPTION_EVENT:
            told = attributes.get(semconv.EXCEPTION_MESSAGE)
            stack = attributes.get(semconv.EXCEPTION_STACKTRACE)
            found.append(
                {
                    "kind": "error",
                    "name": _text(attributes.get(semconv.EXCEPTION_TYPE))
                    or semconv.EXCEPTION_EVENT,
                    "at_ns": event.timestamp,
                    "payload": {
                        "message": free_text(told, limit) if told is not None else None,
                        "stack": tail_of(stack, limit) if stack is not None else None,
                    },
                }
            )
            continue
        kind = word(attributes.get(semconv.EVENT_KIND) or "log")
        text = attributes.get(semconv.EVENT_PAYLOAD)
        payload = json_payload(
            parsed(text) if isinstance(text, str) else _besides_kind(attributes), limit
        )
        if kind not in KINDS:
            payload = {"kind": kind} | ({"payload": payload} if payload else {})
        found.append(
            {
                "kind": kind if kind in KINDS else "log",
                "name": kind if event.name == kind else clean(event.name),
                "at_ns": event.timestamp,
                "payload": payload or None,
            }
        )
    return found or None


def parsed(text: str) -> Any:
    """Return what a text holds as JSON; one that holds none, as it is."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text


def _besides_kind(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in attributes.items() if key != semconv.EVENT_KIND}


def _text(value: object) -> str | None:
    return clean(value) if isinstance(value, str) else None
