"""Numbers in the units a person would use, and text that cannot break a screen or a picture.

What is shown, and where, is decided by others.
"""

from __future__ import annotations

import unicodedata
from datetime import date, datetime

__all__ = ["UNKNOWN", "cost", "count", "day", "duration", "number", "plain", "share", "short_id"]

UNKNOWN = "–"
"""What stands for a value nobody knows."""

_MS = 1.0
_SECOND = 1_000.0
_MINUTE = 60 * _SECOND
_HOUR = 60 * _MINUTE
_DAY = 24 * _HOUR
_DELETE = 0x7F
_SHORT_ID = 12
_SMALLEST_SHARE = 0.0005
_MANY = 1_000


def plain(value: object) -> str:
    """Return a value as one line of text that cannot move the cursor or change a colour."""
    return "".join(map(_visible, str(value)))


def _visible(character: str) -> str:
    point = ord(character)
    if point < ord(" "):
        return chr(0x2400 + point)
    if point == _DELETE:
        return "␡"
    # Format characters such as bidirectional overrides reorder a line; the joiner inside an emoji
    # does not.
    if character != "\u200d" and unicodedata.category(character) in {"Cc", "Cf", "Cs", "Zl", "Zp"}:
        return "\N{REPLACEMENT CHARACTER}"
    return character


def count(value: int | None) -> str:
    """Return a number with thousands set apart."""
    return UNKNOWN if value is None else f"{value:,}"


def number(value: float | None) -> str:
    """Return a number that need not be whole, with as many digits as say something."""
    if value is None:
        return UNKNOWN
    if isinstance(value, int):
        return count(value)
    is_whole = value.is_integer()
    return f"{value:,.0f}" if is_whole or abs(value) >= _MANY else f"{value:,.2f}"


def cost(value: float | None) -> str:
    """Return US dollars; small sums keep four digits."""
    if value is None:
        return UNKNOWN
    return f"${value:,.2f}" if value == 0 or value >= 1 else f"${value:.4f}"


def share(value: float | None) -> str:
    """Return a part of one in percent; only nothing is 0%, and only the whole is 100%."""
    if value is None:
        return UNKNOWN
    if 0 < value < _SMALLEST_SHARE:
        return "<0.1%"
    if 1 - _SMALLEST_SHARE < value < 1:
        return ">99.9%"
    return f"{value:.0%}" if value in {0, 1} else f"{value:.1%}"


def duration(ms: float | None) -> str:
    """Return milliseconds in the unit a person would use."""
    if ms is None:
        return UNKNOWN
    for unit, name in ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "min"), (_SECOND, "s")):
        if ms >= unit:
            return f"{ms / unit:.1f} {name}"
    return f"{ms:.1f} ms" if ms < 10 * _MS else f"{ms:.0f} ms"


def day(moment: date | None) -> str:
    """Return a day, and of a moment (UTC) the minute as well."""
    if moment is None:
        return UNKNOWN
    return f"{moment:%Y-%m-%d %H:%M}" if isinstance(moment, datetime) else f"{moment:%Y-%m-%d}"


def short_id(engagement_id: str) -> str:
    """Return the part of an id that a person may type: the end of a UUID, else the beginning."""
    if len(engagement_id) <= _SHORT_ID:
        return engagement_id
    tail = engagement_id.rpartition("-")[2]
    return tail if len(tail) == _SHORT_ID else engagement_id[:_SHORT_ID]
