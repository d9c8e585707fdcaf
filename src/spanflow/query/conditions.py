"""What must hold of an engagement, as SQL: its named columns, and the keys of its metadata.

Values are compared strictly: 1, "1" and true are three values. It builds text and parameters, and
runs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from spanflow.errors import LedgerError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Condition", "matches"]

Condition: TypeAlias = str | int | float | bool | None

_COLUMNS = ("conversation_id", "name", "service_name", "session_id", "user_id")
_NUMBERS = "('BIGINT', 'UBIGINT', 'HUGEINT', 'UHUGEINT', 'DOUBLE')"


def matches(where: Mapping[str, Condition]) -> tuple[list[str], list[object]]:
    """Return the conditions as SQL, each with its parameters in order.

    Args:
        where: Column or metadata key, and the value it must have.

    Raises:
        LedgerError: A value is not text, a number, a bool or None.
    """
    conditions: list[str] = []
    params: list[object] = []
    for name, value in where.items():
        if name in _COLUMNS:
            condition, given = _column(name, value)
        else:
            condition, given = _metadata(name, value)
        conditions.append(condition)
        params.extend(given)
    return conditions, params


def _column(name: str, value: Condition) -> tuple[str, list[object]]:
    if value is None:
        return f"{name} IS NULL", []
    if not isinstance(value, str):
        # These columns hold text, and no text equals a number.
        return "false", []
    return f"{name} = ?", [value]


def _metadata(key: str, value: Condition) -> tuple[str, list[object]]:
    # A JSON pointer, because it can name any key; in a path, quotes and dots would have a meaning.
    pointer = "/" + key.replace("~", "~0").replace("/", "~1")
    kind = "json_type(metadata, ?)"
    text = "json_extract_string(metadata, ?)"
    if value is None:
        return f"{kind} = 'NULL'", [pointer]
    if isinstance(value, bool):
        return f"({kind} = 'BOOLEAN' AND {text} = ?)", [pointer, pointer, str(value).lower()]
    if isinstance(value, str):
        return f"({kind} = 'VARCHAR' AND {text} = ?)", [pointer, pointer, value]
    if isinstance(value, int | float):  # pyright: ignore[reportUnnecessaryIsInstance]
        number = f"TRY_CAST({text} AS DOUBLE) = CAST(? AS DOUBLE)"
        return f"({kind} IN {_NUMBERS} AND {number})", [pointer, pointer, value]
    message = f"{key}={value!r} cannot be compared; give text, a number, true, false or null."
    raise LedgerError(message)
