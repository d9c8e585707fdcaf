"""One record as one line of JSON, whatever is in it; it never raises.

Anything JSON has no word for is written as text: an object as its ``repr``, an integer beyond 64
bits as its digits, NaN as null, a lone surrogate as U+FFFD.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, cast

import orjson

__all__ = ["MAX_LINE_BYTES", "encode", "plain", "text_of"]

VERSION = 1
MAX_LINE_BYTES = 4 * 1024 * 1024
"""Longer records are cut: a reader must be able to hold a line in memory."""

_MAX_DEPTH = 40
_MAX_VALUES = 100_000
_MAX_REPR = 4096
_INT64 = range(-(2**63), 2**63)
_CUT_LENGTHS = (65_536, 4_096, 256)
_BULKY = ("attributes", "events", "links", "metadata", "arguments", "result", "error_stack")


def encode(record: Mapping[str, object], process_id: str) -> bytes:
    """Return `record` as one line of JSON that ends in a newline.

    Args:
        record: The fields of one record; ``v`` and ``process_id`` are set here.
        process_id: The writing process.
    """
    stamped = {**record, "v": VERSION, "process_id": process_id}
    try:
        line = orjson.dumps(stamped, default=_as_text, option=orjson.OPT_APPEND_NEWLINE)
    except (TypeError, ValueError, RecursionError):
        line = _dump(plain(stamped))
    if len(line) > MAX_LINE_BYTES:
        return _cut(stamped)
    return line


def plain(
    value: object,
    text: Callable[[str], str] | None = None,
    key: Callable[[str], str] | None = None,
) -> object:
    """Return a copy of `value` that any JSON writer accepts, bounded in depth and breadth.

    Args:
        value: Anything at all.
        text: What to make of each text in it, before the text is cut.
        key: What to make of each key of its mappings.
    """
    return _Plain(text=text, key=key).of(value)


def text_of(value: object, longest: int | None = None) -> str:
    """Return `value` as text that UTF-8 can encode, cut to `longest` characters."""
    try:
        return _clean(value if isinstance(value, str) else _as_text(value), longest)
    except Exception:  # noqa: BLE001 - even asking a stranger for its class may fail
        return f"<{type(value).__name__}>"


def _dump(data: object) -> bytes:
    return orjson.dumps(data, option=orjson.OPT_APPEND_NEWLINE)


def _cut(record: Mapping[str, object]) -> bytes:
    for longest in _CUT_LENGTHS:
        line = _dump(_Plain(longest=longest).of(record))
        if len(line) <= MAX_LINE_BYTES:
            return line
    bare = {key: value for key, value in record.items() if key not in _BULKY}
    return _dump(_Plain(longest=_CUT_LENGTHS[-1], max_depth=2).of(bare))


class _Plain:
    """Copies a value into what any JSON writer accepts, within bounds."""

    def __init__(
        self,
        *,
        longest: int | None = None,
        max_depth: int = _MAX_DEPTH,
        text: Callable[[str], str] | None = None,
        key: Callable[[str], str] | None = None,
    ) -> None:
        self._text = text
        self._key_text = key
        self._longest = longest
        self._max_depth = max_depth
        self._left = _MAX_VALUES
        self._open: set[int] = set()

    def of(self, value: object) -> object:
        try:
            return self._of(value)
        except Exception:  # noqa: BLE001 - even asking a stranger for its class may fail
            return f"<{type(value).__name__}>"

    def _of(self, value: object) -> object:
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, str):
            text = value if self._text is None else self._text(_clean(value, None))
            return _clean(text, self._longest)
        if isinstance(value, int | float):
            return self._number(value)
        if isinstance(value, Mapping | Sequence | AbstractSet) and not isinstance(
            value, bytes | bytearray | memoryview
        ):
            return self._container(cast("Any", value))
        return self._stranger(cast("object", value))

    def _number(self, value: float) -> object:
        if isinstance(value, float):
            return float(value) if math.isfinite(value) else None
        number = int(value)
        return number if number in _INT64 else self._spelled(number)

    def _stranger(self, value: object) -> object:
        dump = getattr(type(value), "model_dump", None)
        if callable(dump):
            return self._container(cast("Any", dump(value)))
        return self._spelled(value)

    def _spelled(self, value: object) -> str:
        return _clean(_as_text(value, self._text), self._longest)

    def _container(self, value: Any) -> object:
        self._left -= 1
        identity = id(value)
        if identity in self._open or len(self._open) >= self._max_depth or self._left < 0:
            return "…"
        self._open.add(identity)
        try:
            if isinstance(value, Mapping):
                items = cast("Mapping[object, object]", value).items()
                return {self._key(key): self.of(item) for key, item in _several(items)}
            return [self.of(item) for item in _several(value)]
        finally:
            self._open.discard(identity)

    def _key(self, key: object) -> str:
        text = _clean(key if isinstance(key, str) else _as_text(key), self._longest)
        return text if self._key_text is None else self._key_text(text)


def _several(items: Any) -> list[Any]:
    """Return the items of any container, or none where even looking at them fails."""
    try:
        return list(items)
    except Exception:  # noqa: BLE001 - a stranger's container may do anything
        return []


def _clean(text: str, longest: int | None) -> str:
    """Return `text` as a plain `str` without lone surrogates, cut to `longest` characters."""
    if longest is not None and len(text) > longest:
        text = f"{text[:longest]}…"
    try:
        return str.encode(text, "utf-8").decode("utf-8")
    except UnicodeEncodeError:
        return str.encode(text, "utf-16", "surrogatepass").decode("utf-16", "replace")


def _as_text(value: object, change: Callable[[str], str] | None = None) -> str:
    """Return a bounded text for anything; called by orjson for what it does not know."""
    longest: int | None = _MAX_REPR
    if isinstance(value, bytes | bytearray | memoryview):
        text, longest = bytes(cast("bytes", value)).decode("utf-8", "replace"), None
    else:
        try:
            text = value if isinstance(value, str) else repr(value)
        except Exception:  # noqa: BLE001 - a stranger's __repr__ may do anything
            text = f"<{type(value).__name__}>"
    if change is not None:
        text = change(_clean(text, None))
    return _clean(text, longest)
