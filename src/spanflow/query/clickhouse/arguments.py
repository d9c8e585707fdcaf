"""Turns the arguments of a question into the parameters of a query in ClickHouse's SQL.

Whatever somebody gives goes to the server as a parameter, none of it as text of a query.
"""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, cast

from spanflow.errors import LedgerError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from spanflow.query.clickhouse.servers import Parameter

__all__ = ["parameters_of", "sides_of"]

_IDLE_AFTER = timedelta(minutes=30)
_FOREVER_NS = 2**63 - 1
_US = timedelta(microseconds=1)
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - times are naive and in UTC
_DEPTH = 20
_PERIODS = ("day", "week", "month")
_COMMON = ("since", "until", "name", "user_id", "metadata", "as_of", "idle_after")
_OWN = {
    "funnel": ("steps", "ordered", "within"),
    "funnel_engagements": ("steps", "ordered", "within"),
    "journeys": ("status", "reached"),
    "paths": ("depth", "nested"),
    "usage_by": ("by", "split"),
    "cohorts": ("by",),
    "retention": ("by",),
    "engagements_by": ("key",),
    "compare": ("a", "b"),
}
_COLUMNS = ("session_id", "conversation_id", "service_name", "graph_version")


def parameters_of(question: str, arguments: Mapping[str, object]) -> dict[str, Parameter]:
    """Return a question's arguments as the parameters of its query.

    Raises:
        LedgerError: An argument is unknown, or no value of it can be compared.
    """
    unknown = arguments.keys() - {*_COMMON, *_OWN.get(question, ())}
    if unknown:
        message = f"{question} knows no {', '.join(sorted(unknown))}."
        raise LedgerError(message)
    as_of = cast("datetime | None", arguments.get("as_of"))
    now_us = time.time_ns() // 1000 if as_of is None else _us(as_of)
    # The last nanosecond of that microsecond.
    instant_ns = now_us * 1000 + 999
    reached = arguments.get("reached")
    steps = cast("Sequence[str]", arguments.get("steps", [] if reached is None else [reached]))
    within = cast("timedelta | None", arguments.get("within"))
    by = str(arguments.get("by", "week"))
    if question in ("cohorts", "retention") and by not in _PERIODS:
        message = f"by={by!r} is none of {', '.join(_PERIODS)}."
        raise LedgerError(message)
    period: dict[str, Parameter] = {
        "since_us": _moment(arguments.get("since")),
        "until_us": _moment(arguments.get("until")),
    }
    calls: dict[str, Parameter] = {"call_since_us": None, "call_until_us": None}
    if question == "usage_by":
        # There it is about the calls, wherever their engagements began.
        calls = {f"call_{name}": value for name, value in period.items()}
        period = dict.fromkeys(period)
    return {
        **period,
        **calls,
        "instant_ns": instant_ns,
        "horizon_ns": _FOREVER_NS if as_of is None else instant_ns,
        "idle_after_us": cast("timedelta", arguments.get("idle_after", _IDLE_AFTER)) // _US,
        "is_restricted": int(any(name in arguments for name in ("name", "user_id", "metadata"))),
        "name": _text(arguments.get("name")),
        "user_id": _text(arguments.get("user_id")),
        **_metadata(cast("Mapping[str, object]", arguments.get("metadata", {}))),
        "columns": [],
        "column_values": [],
        "steps": list(steps),
        "is_chained": int(bool(arguments.get("ordered")) or within is not None),
        "within_us": None if within is None else within // _US,
        "status": _text(arguments.get("status")),
        "depth": cast("int", arguments.get("depth", _DEPTH)),
        "is_nested": int(bool(arguments.get("nested"))),
        "by": by,
        "split": _text(arguments.get("split")),
        "key": str(arguments.get("key", "")),
    }


def sides_of(arguments: Mapping[str, object]) -> Iterator[dict[str, Parameter]]:
    """Yield what the sides of a comparison ask for, each together with what both do.

    Raises:
        LedgerError: No value of a side can be compared.
    """
    for side in ("a", "b"):
        told = dict(cast("Mapping[str, object]", arguments[side]))
        since = [_moment(one.pop("since", None)) for one in (told, dict(arguments))]
        until = [_moment(one.pop("until", None)) for one in (told, dict(arguments))]
        mine = {name: told.pop(name) for name in ("name", "user_id", *_COLUMNS) if name in told}
        common = cast("Mapping[str, object]", arguments.get("metadata", {}))
        given: dict[str, Parameter] = {
            "since_us": max((one for one in since if one is not None), default=None),
            "until_us": min((one for one in until if one is not None), default=None),
        }
        conditions = [*common.items(), *told.items()]
        kinds, values = _kinds_and_values(conditions)
        yield {
            **given,
            "metadata_keys": [key for key, _ in conditions],
            "metadata_kinds": kinds,
            "metadata_values": values,
            # These columns hold text, and no text equals a number.
            "columns": [
                name if value is None or isinstance(value, str) else ""
                for name, value in mine.items()
            ],
            "column_values": [_text(value) for value in mine.values()],
        }


def _metadata(wanted: Mapping[str, object]) -> dict[str, Parameter]:
    kinds, values = _kinds_and_values(list(wanted.items()))
    return {
        "metadata_keys": list(wanted),
        "metadata_kinds": kinds,
        "metadata_values": values,
    }


def _kinds_and_values(wanted: Sequence[tuple[str, object]]) -> tuple[list[str], list[str]]:
    kinds: list[str] = []
    values: list[str] = []
    for key, value in wanted:
        kind, text = _kind_and_value(key, value)
        kinds.append(kind)
        values.append(text)
    return kinds, values


def _kind_and_value(key: str, value: object) -> tuple[str, str]:
    match value:
        case None:
            return "null", ""
        case bool():
            return "bool", str(value).lower()
        case int() | float():
            return "number", repr(float(value))
        case str():
            return "text", value
        case _:
            message = f"{key}={value!r} cannot be compared; give text, a number, a bool or None."
            raise LedgerError(message)


def _moment(value: object) -> int | None:
    return None if value is None else _us(cast("datetime", value))


def _us(moment: datetime) -> int:
    return (moment - _EPOCH) // _US


def _text(value: object) -> str | None:
    return None if value is None else str(value)
