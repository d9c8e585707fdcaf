"""Whatever a user's code hands us, made safe to write: text every encoder takes, cut to a limit.

Never raises and never calls more of the user's code than ``repr``. It knows nothing of spans.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import orjson

__all__ = ["Payload", "clean", "jsonable", "payload_of"]

_MAX_DEPTH = 32
_MAX_INT = 2**63


@dataclass(frozen=True, slots=True)
class Payload:
    """A value as text, with its size in bytes before it was cut."""

    text: str
    truncated: bool
    original_size: int


def clean(value: object, limit: int = 512) -> str:
    """Return `value` as text that UTF-8 can encode, at most `limit` characters long."""
    text = value if isinstance(value, str) else _repr(value)
    if len(text) > limit:
        text = text[:limit]
    if text.isascii():
        return text
    return text.encode("utf-8", "replace").decode("utf-8")


def payload_of(value: object, limit: int) -> Payload:
    """Return `value` as text of at most `limit` bytes: strings as they are, all else as JSON.

    Args:
        value: Anything at all.
        limit: The longest text kept, in bytes of UTF-8.
    """
    if isinstance(value, str):
        raw = value.encode("utf-8", "replace")
    else:
        raw = orjson.dumps(jsonable(value))
    if len(raw) <= limit:
        return Payload(raw.decode("utf-8"), truncated=False, original_size=len(raw))
    return Payload(raw[:limit].decode("utf-8", "ignore"), truncated=True, original_size=len(raw))


def jsonable(value: Any, depth: int = 0) -> Any:  # noqa: PLR0911 - one answer a kind of value
    """Return `value` as plain JSON data; what JSON cannot say becomes its ``repr``.

    Not-a-number and infinities become text, keys become text, integers past 64 bits become text,
    and what nests too deeply (or contains itself) ends in its type's name.
    """
    if value is None or isinstance(value, bool):
        return value
    kind = type(value)  # pyright: ignore[reportUnknownVariableType]
    if kind is str:
        return value if value.isascii() else value.encode("utf-8", "replace").decode("utf-8")
    if kind is int:
        return value if -_MAX_INT <= value < _MAX_INT else str(value)[:4_300]
    if kind is float:
        return value if math.isfinite(value) else str(value)
    if depth >= _MAX_DEPTH:
        return f"<{kind.__name__}>"
    if isinstance(value, dict):
        return {
            clean(key, 1_024): jsonable(item, depth + 1)  # pyright: ignore[reportUnknownArgumentType]
            for key, item in list(value.items())  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
        }
    if isinstance(value, list | tuple | set | frozenset):
        return [jsonable(item, depth + 1) for item in list(value)]  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    dump = getattr(value, "model_dump", None)
    if callable(dump):
        try:
            return jsonable(dump(), depth + 1)
        except Exception:  # noqa: BLE001 - somebody else's method may do anything
            return clean(_repr(value), 16_384)
    return clean(_repr(value), 16_384)


def _repr(value: object) -> str:
    try:
        return value if isinstance(value, str) else repr(value)
    except Exception:  # noqa: BLE001 - a user's __repr__ may do anything
        return f"<{type(value).__name__}>"
