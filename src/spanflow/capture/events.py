"""What happens inside a step or a turn, as a span event and as part of its record."""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from spanflow import semconv
from spanflow.capture.payload import clean, fitted, free_text, tail_of
from spanflow.guard import diagnose

if TYPE_CHECKING:
    from opentelemetry.trace import Span
    from opentelemetry.util.types import AttributeValue

__all__ = ["KINDS", "LONGEST_STATUS", "Event", "Events", "error_event", "told_by"]

KINDS = frozenset(
    {
        *("log", "error", "extraction", "goal", "intent_switch", "wait", "gave_up"),
        *("retry", "fallback", "cache.hit"),
    }
)
"""What events there are; whatever somebody else calls one is a log that says so."""

LONGEST_STATUS = 512
"""The longest message of an error that becomes a span's status, in characters."""

_MOST = 1_000
"""Events kept of one step or turn; a loop that logs for ever must not fill the memory."""
_ON_SPAN_BYTES = 2_000
"""Tempo cuts string attributes at 2,048 bytes: what is longer stays in the ledger."""

_BULKY = {"wait": ("payload",), "extraction": ("values", "json_schema", "error")}
"""What is left out of an event that is too long for a span. The rest is always told: a question's
id and label tie it to its answer, and whether an extraction is valid is what people ask."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened at a moment: its kind, name, time and JSON-able payload.

    Name and payload are what ``payload`` made of them: they are written as they are.
    """

    kind: str
    name: str
    at_ns: int
    payload: Any = None

    def write(self, span: Span) -> None:
        """Add the event to a span, as an ``exception`` event where it is an error."""
        attributes: dict[str, AttributeValue]
        if self.kind == "error" and isinstance(self.payload, dict):
            attributes = {
                semconv.EXCEPTION_TYPE: self.name,
                semconv.EXCEPTION_MESSAGE: str(self.payload.get("message", ""))[:_ON_SPAN_BYTES],  # pyright: ignore[reportUnknownArgumentType, reportUnknownMemberType]
                semconv.EXCEPTION_STACKTRACE: str(self.payload.get("stack", ""))[-_ON_SPAN_BYTES:],  # pyright: ignore[reportUnknownArgumentType, reportUnknownMemberType]
            }
            span.add_event(semconv.EXCEPTION_EVENT, attributes, self.at_ns)
            return
        attributes = {semconv.EVENT_KIND: self.kind}
        if self.payload is not None:
            text = fitted(self.payload, _ON_SPAN_BYTES)
            bulky = _BULKY.get(self.kind)
            if text.truncated and bulky is not None:
                short = {key: self.payload[key] for key in self.payload if key not in bulky}
                attributes[semconv.EVENT_PAYLOAD] = fitted(short, _ON_SPAN_BYTES).text
            if text.truncated:
                attributes[semconv.PAYLOAD_TRUNCATED] = True
                attributes[semconv.PAYLOAD_ORIGINAL_SIZE] = text.original_size
            else:
                attributes[semconv.EVENT_PAYLOAD] = text.text
        span.add_event(self.name, attributes, self.at_ns)


class Events:
    """The events of one step or turn, in order, bounded."""

    __slots__ = ("_kept",)

    def __init__(self) -> None:
        self._kept: list[Event] = []

    def add(self, event: Event) -> bool:
        """Keep `event`; False where there are too many already."""
        if len(self._kept) >= _MOST:
            diagnose("events.dropped", f"a step or turn has more than {_MOST} events")
            return False
        self._kept.append(event)
        return True

    def as_records(self) -> list[dict[str, Any]] | None:
        """Return the events as a record holds them, or None where there are none."""
        if not self._kept:
            return None
        return [
            {"kind": e.kind, "name": e.name, "at_ns": e.at_ns, "payload": e.payload}
            for e in self._kept
        ]


def told_by(error: BaseException, limit: int) -> tuple[str, str]:
    """Return the name of an error's class, and its message cut to `limit` characters."""
    return clean(type(error).__name__), free_text(_message(error), limit)


def error_event(error: BaseException, at_ns: int, limit: int, attempt: int | None = None) -> Event:
    """Return the event of an error: its type, message and stack, each cut to `limit` characters.

    Args:
        error: What was raised.
        at_ns: When, in nanoseconds since the epoch.
        limit: The longest message or stack kept.
        attempt: Which attempt of a step it ended, 1-based.
    """
    try:
        stack = "".join(traceback.format_exception(error))
    except Exception:  # noqa: BLE001 - formatting calls the user's __str__ and __repr__
        stack = ""
    name, message = told_by(error, limit)
    payload: dict[str, Any] = {
        "message": message,
        "stack": tail_of(stack, limit),
    }
    if attempt is not None:
        payload["attempt"] = attempt
    return Event("error", name, at_ns, payload)


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - a user's __str__ may do anything
        return f"<{type(error).__name__}>"
