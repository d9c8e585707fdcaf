"""What a finished span, anybody's, tells of what happened in it and of how its work ended.

It reads and writes nothing; whose span it is and what it stands for is for others to say.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import orjson

from spanflow import semconv
from spanflow.capture.dialects import is_content
from spanflow.capture.payload import clean, free_text, json_payload, tail_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opentelemetry.sdk.trace import ReadableSpan

__all__ = ["ended_events", "ending_of", "events_of", "parsed", "word"]

_WORD = re.compile(r"[0-9a-f]{1,32}|[a-z_]{1,32}")
_CANCELLED = "CancelledError"
"""The exception by which asyncio, and whoever follows it, ends work that nobody wants any more."""


def word(value: object) -> str:
    """Return an id or a word of ours; on a span from elsewhere anything may stand there."""
    return value if isinstance(value, str) and _WORD.fullmatch(value) else clean(value)


def ending_of(
    span: ReadableSpan, attributes: Mapping[str, Any], limit: int
) -> tuple[str, tuple[str, str] | None]:
    """Return how the work ended that somebody else's span stands for, as far as the span tells.

    Returns:
        ``completed``, ``failed`` or ``cancelled``; and type and message of what made it fail.
    """
    raised: Mapping[str, Any] = {}
    for event in span.events:
        if event.name == semconv.EXCEPTION_EVENT:
            raised = event.attributes or {}
    kind = clean(raised.get(semconv.EXCEPTION_TYPE) or "").rpartition(".")[2]
    code = span.status.status_code.name
    if kind == _CANCELLED and code != "OK":
        return "cancelled", None
    if code != "ERROR":
        return "completed", None
    said = _text(attributes.get(semconv.ERROR_TYPE))
    if said is not None and said.rpartition(".")[2] == _CANCELLED:
        return "cancelled", None
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

    An error that no event tells is added, and cancellation is none.

    Args:
        span: The span, ended.
        ending: How its work ended, as :func:`ending_of` has it.
        limit: The longest payload kept, in bytes.
        content: Whether what was said is kept.
    """
    status, error = ending
    events = events_of(span, limit, content=content) or []
    if status == "cancelled":
        return [e for e in events if not _is_cancellation(e)]
    if error is not None and not any(event["kind"] == "error" for event in events):
        payload = {"message": error[1], "stack": None}
        told = {"kind": "error", "name": error[0], "at_ns": span.end_time, "payload": payload}
        return [*events, told]
    return events


def _is_cancellation(event: Mapping[str, Any]) -> bool:
    return event["kind"] == "error" and event["name"].rpartition(".")[2] == _CANCELLED


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
        found.append(
            {
                "kind": kind,
                "name": kind if event.name == kind else clean(event.name),
                "at_ns": event.timestamp,
                "payload": json_payload(
                    parsed(text) if isinstance(text, str) else _besides_kind(attributes), limit
                )
                or None,
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
