"""Whatever a user's code hands us, made safe to write: redacted, text every encoder takes, cut.

Every text of others' comes through here exactly once before it reaches a span or the journal:
redacted whole and cut afterwards, so that nothing is cut apart unseen. Never raises and never calls
more of the user's code than ``repr``, ``model_dump`` and the redactor. It knows nothing of spans.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import orjson

from spanflow.capture import redact
from spanflow.ledger.encoding import plain, text_of

if TYPE_CHECKING:
    from spanflow.capture.redact import Redactor

__all__ = [
    "WHOLE_BYTES",
    "Payload",
    "clean",
    "clean_path",
    "fitted",
    "free_text",
    "identifier",
    "json_payload",
    "jsonable",
    "payload_of",
    "tail_of",
]

WHOLE_BYTES = 2_048
"""The longest string attribute that every back end keeps whole (Tempo cuts there)."""
_NAME_LENGTH = 512


@dataclass(frozen=True, slots=True)
class Payload:
    """A value as text, with its size in bytes before it was redacted and cut."""

    text: str
    truncated: bool
    original_size: int


def clean(value: object, limit: int = _NAME_LENGTH) -> str:
    """Return the name of something in the user's code as text of at most `limit` characters.

    Names that differ still differ where they are redacted.
    """
    redactor = redact.current()
    if redactor is not None:
        return redactor.name(text_of(value), limit)
    if type(value) is str and len(value) <= limit and value.isascii():
        return value
    return text_of(value)[:limit]


def clean_path(value: object) -> str:
    """Return the path of a step, each of its names as :func:`clean` gives it."""
    return "/".join(map(clean, text_of(value).split("/")))


def identifier(value: object, limit: int = _NAME_LENGTH) -> str:
    """Return the id of a person, session or conversation; like a name it stays one of its own."""
    redactor = redact.current()
    text = text_of(value)
    return text[:limit] if redactor is None else redactor.identifier(text, limit)


def free_text(value: object, limit: int) -> str:
    """Return what somebody wrote, such as an error's message, as at most `limit` characters."""
    redactor = redact.current()
    text = text_of(value)
    return text[:limit] if redactor is None else redactor.text(text, limit)


def tail_of(value: object, limit: int) -> str:
    """Return the last `limit` characters of a text, such as a stack, whose end says most."""
    redactor = redact.current()
    text = text_of(value)
    return text[-limit:] if redactor is None else redactor.tail(text, limit)


def payload_of(value: object, limit: int) -> Payload:
    """Return `value` as text of at most `limit` bytes: strings as they are, all else as JSON.

    Args:
        value: Anything at all.
        limit: The longest text kept, in bytes of UTF-8.
    """
    redactor = redact.current()
    if issubclass(type(value), str):
        text = text_of(value)
        kept = text if redactor is None else redactor.text(text, limit)
        return _cut(kept.encode(), len(text.encode()), limit)
    _, raw, size = _dumped(value, redactor, limit)
    return _cut(raw, size, limit)


def json_payload(value: object, limit: int) -> object:
    """Return `value` as JSON data no larger than `limit` bytes of text.

    What is larger becomes its beginning, with its original size.
    """
    data, raw, size = _dumped(value, redact.current(), limit)
    if max(size, len(raw)) <= limit:
        return data
    cut = payload_of(value, limit)
    return {"truncated": True, "original_size": cut.original_size, "text": cut.text}


def fitted(data: object, limit: int) -> Payload:
    """Return JSON data that went through here before as text of at most `limit` bytes."""
    raw = orjson.dumps(plain(data))
    return _cut(raw, len(raw), limit)


def jsonable(value: object, limit: int | None = None) -> object:
    """Return `value` as plain JSON data; what JSON cannot say becomes its ``repr``.

    Keys become text, integers past 64 bits become text, numbers that are none become null, and
    what nests too deeply, is too wide or contains itself ends in an ellipsis.

    Args:
        value: Anything at all.
        limit: The longest text in it that is redacted rather than cut.
    """
    redactor = redact.current()
    if redactor is None:
        return plain(value)
    return plain(
        value,
        text=lambda text: redactor.text(text, limit),
        key=lambda key: redactor.name(key, _NAME_LENGTH),
    )


def _dumped(value: object, redactor: Redactor | None, limit: int) -> tuple[object, bytes, int]:
    """Return `value` as data and as JSON, and the size of that JSON before it was redacted."""
    data = jsonable(value, limit)
    raw = orjson.dumps(data)
    return data, raw, len(raw) if redactor is None else len(orjson.dumps(plain(value)))


def _cut(raw: bytes, size: int, limit: int) -> Payload:
    longest = max(size, len(raw))
    return Payload(raw[:limit].decode("utf-8", "ignore"), longest > limit, size)
