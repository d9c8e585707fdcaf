"""What a request brought along in its baggage: the engagement of whoever called this service.

It is read where the app has asked for it, and never believed beyond being an id. It is taken out of
the context that our own turns and calls run in, asked for or not, and out of the ambient one where
the agent is somebody else's: an instrumented HTTP client sends all baggage that stands there to
every host. Nothing here ever puts any in, but back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from opentelemetry import baggage
from opentelemetry import context as otel_context
from opentelemetry.context import Context, create_key, get_value, set_value

from spanflow import semconv
from spanflow.capture.payload import identifier
from spanflow.guard import diagnose

if TYPE_CHECKING:
    from spanflow.capture.runtime import Runtime

__all__ = ["TakenOut", "engagement_id", "is_portable", "take_out", "without"]

_LONGEST_BYTES: Final = 128
"""As long as an engagement's id ever is."""
_TAKEN_OUT = create_key("spanflow-carried")
"""Under which the context still has, for us alone, the id that was taken out of its baggage."""


class TakenOut(NamedTuple):
    """What stood around before our part of it was taken out, and what has stood there since."""

    before: Context
    since: Context

    def put_back(self) -> None:
        """Put back what stood there, unless the code has gone on to stand elsewhere."""
        if otel_context.get_current() is self.since:
            otel_context.attach(self.before)  # never detached: whoever put it there puts it away


def engagement_id(runtime: Runtime) -> str | None:
    """Return the engagement that the running request says it is part of.

    Args:
        runtime: Whom the capture serves; its settings say whether such a request is believed.

    Returns:
        The id, as any id that is given; None where there is none, or none that can be one.
    """
    if not runtime.settings.accept_baggage:
        return None
    told = baggage.get_baggage(semconv.BAGGAGE_ENGAGEMENT_ID)
    if told is None:
        told = get_value(_TAKEN_OUT)
    if told is None:
        return None
    if isinstance(told, str) and is_portable(told):
        cleaned = identifier(told)
        if is_portable(cleaned):
            return cleaned
    diagnose(
        "carried.refused", "a request's baggage has an engagement id that is none; it is ignored"
    )
    return None


def is_portable(text: str) -> bool:
    """Whether an id is short and plain enough to arrive as it was sent."""
    return (
        0 < len(text.encode(errors="replace")) <= _LONGEST_BYTES
        and text == text.strip()
        and not any(ord(sign) < 0x20 or 0x7F <= ord(sign) < 0xA0 for sign in text)  # noqa: PLR2004 - control characters
        and not any(0xD800 <= ord(sign) < 0xE000 for sign in text)  # noqa: PLR2004 - half a character
    )


def without(context: Context) -> Context:
    """Return `context` without what a request brought along for us; all other baggage stays."""
    for key in list(baggage.get_all(context)):
        if key.startswith(semconv.BAGGAGE_PREFIX):
            context = baggage.remove_baggage(key, context)
    return context


def take_out() -> TakenOut | None:
    """Take what a request brought along for us out of the ambient context, where it has any.

    Whoever opens a span of somebody else's puts it into the context that stands here then.
    """
    before = otel_context.get_current()
    since = without(before)
    if since is before:
        return None
    told = baggage.get_baggage(semconv.BAGGAGE_ENGAGEMENT_ID, before)
    since = set_value(_TAKEN_OUT, told, since)
    otel_context.attach(since)  # never detached: the span may end in another context
    return TakenOut(before, since)
