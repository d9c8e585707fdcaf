"""Reads a part of what a provider answered, which may be an object or a mapping.

Asking somebody's object may fail; then there is no such part.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

__all__ = ["first_part", "part"]


def part(told: Any, name: str) -> Any:
    """Return a field of an object or a mapping; None where there is none, or where asking fails."""
    if told is None:
        return None
    try:
        if isinstance(told, Mapping):
            return cast("Mapping[str, Any]", told).get(name)
        return getattr(told, name, None)
    except Exception:  # noqa: BLE001 - somebody's property
        return None


def first_part(told: Any, *names: str) -> Any:
    """Return the first of these fields that is there and not None."""
    return next((found for name in names if (found := part(told, name)) is not None), None)
