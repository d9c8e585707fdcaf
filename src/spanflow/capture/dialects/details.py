"""Reads the objects that some dialects write as the text of one attribute."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final, cast

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["first", "object_in", "part"]

_LONGEST: Final = 4_096


def object_in(value: object) -> dict[str, object]:
    """Read an object from its text, which is JSON or Python's own; of anything else, nothing."""
    if not isinstance(value, str) or len(value) > _LONGEST:
        return {}
    try:
        read: object = json.loads(value)
    except (ValueError, RecursionError):
        try:
            # Numbers by name: nothing in it is quoted but the names.
            read = json.loads(value.replace("'", '"').replace("None", "null"))
        except (ValueError, RecursionError):
            return {}
    return cast("dict[str, object]", read) if isinstance(read, dict) else {}


def part(details: Mapping[str, object], name: str) -> dict[str, object]:
    """Return the object inside an object under this name; empty where there is none."""
    inner = details.get(name)
    return cast("dict[str, object]", inner) if isinstance(inner, dict) else {}


def first(said: Mapping[str, object], keys: tuple[str, ...]) -> object:
    """Return the first of these that is there."""
    return next((found for key in keys if (found := said.get(key)) is not None), None)
