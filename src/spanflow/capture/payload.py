"""Whatever a user's code hands us, made safe to write: text every encoder takes, cut to a limit.

Never raises and never calls more of the user's code than ``repr`` and ``model_dump``. It knows
nothing of spans.
"""

from __future__ import annotations

from dataclasses import dataclass

import orjson

from spanflow.ledger.encoding import plain, text_of

__all__ = ["Payload", "clean", "jsonable", "payload_of"]


@dataclass(frozen=True, slots=True)
class Payload:
    """A value as text, with its size in bytes before it was cut."""

    text: str
    truncated: bool
    original_size: int


def clean(value: object, limit: int = 512) -> str:
    """Return `value` as text that UTF-8 can encode, at most `limit` characters long."""
    if type(value) is str and len(value) <= limit and value.isascii():
        return value
    return text_of(value)[:limit]


def payload_of(value: object, limit: int) -> Payload:
    """Return `value` as text of at most `limit` bytes: strings as they are, all else as JSON.

    Args:
        value: Anything at all.
        limit: The longest text kept, in bytes of UTF-8.
    """
    raw = text_of(value).encode() if issubclass(type(value), str) else orjson.dumps(jsonable(value))
    if len(raw) <= limit:
        return Payload(raw.decode(), truncated=False, original_size=len(raw))
    return Payload(raw[:limit].decode("utf-8", "ignore"), truncated=True, original_size=len(raw))


def jsonable(value: object) -> object:
    """Return `value` as plain JSON data; what JSON cannot say becomes its ``repr``.

    Keys become text, integers past 64 bits become text, numbers that are none become null, and
    what nests too deeply, is too wide or contains itself ends in an ellipsis.
    """
    return plain(value)
