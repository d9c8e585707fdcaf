"""How an answer looks as a table: which columns, called what, in which units, and which give way.

It makes text out of rows; printing, colours and HTML are others' affair.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any, cast

from rich.cells import cell_len, set_cell_size

from spanflow.query import units

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from spanflow.query.rows import Row

__all__ = ["COLUMNS", "Column", "Shown", "cell", "cut", "fitting", "shown", "total_width"]

_GAP = 2
_TO = " → "
_BAR = 12
_EIGHTHS = " ▏▎▍▌▋▊▉"


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table.

    Attributes:
        name: The field it shows.
        header: What stands above it.
        rank: The higher, the sooner it is left out where there is no room; 0 always stays.
        only_if_any: Whether it is left out where no row has a value in it, or all have nothing.
        is_bar: Whether it is a bar as long as the field's part of the largest.
        gives_way: Whether it is cut where there is no room.
        least: How many cells of it are always left.
    """

    name: str
    header: str
    rank: int = 0
    only_if_any: bool = False
    is_bar: bool = False
    gives_way: bool = False
    least: int = 16

    @property
    def is_number(self) -> bool:
        """Whether it is set to the right."""
        return not (self.is_bar or self.gives_way or self.name in _TEXTS)


@dataclass(frozen=True, slots=True)
class Shown:
    """A table as text: the columns, and a line of cells a row."""

    columns: tuple[Column, ...]
    lines: list[list[str]]


_TEXTS = {
    *("cohort", "engagement_id", "example_engagement_id", "first_at", "last_at", "metric", "name"),
    *("outcome", "reason", "split", "started_at", "status", "step", "trace_id", "user_id"),
}
_ID = Column("example_engagement_id", "for example", 9)
_TOKENS = Column("total_tokens", "tokens", 4)
_COST = Column("cost_usd", "cost", 5, only_if_any=True)
_NO_USAGE = Column("calls_without_usage", "no usage", 6, only_if_any=True)
_UNPRICED = Column("unpriced_calls", "unpriced", 6, only_if_any=True)

COLUMNS: dict[str, tuple[Column, ...]] = {
    "funnel": (
        Column("step", "step", gives_way=True),
        Column("reached", "", 2, is_bar=True),
        Column("reached", "reached"),
        Column("visits", "visits", 8),
        Column("advanced", "advanced", 7),
        Column("waiting", "waiting", 1, only_if_any=True),
        Column("active", "active", 1, only_if_any=True),
        Column("failed", "failed", 1, only_if_any=True),
        Column("interrupted", "died", 1, only_if_any=True),
        Column("dropped", "dropped"),
        Column("conversion_rate", "kept", 1),
        Column("step_rate", "to next", 3),
        Column("p50_working_ms", "p50", 5),
        Column("p95_working_ms", "p95", 6),
        Column("p50_waiting_ms", "p50 waiting", 8, only_if_any=True),
        _TOKENS,
        _COST,
        _NO_USAGE,
        _UNPRICED,
    ),
    "funnel_engagements": (
        Column("engagement_id", "engagement"),
        Column("step", "step", gives_way=True),
        Column("outcome", "outcome"),
        Column("status", "status", 2),
        Column("visits", "visits", 3),
        Column("first_at", "first UTC", 5),
        Column("working_ms", "working", 4),
        _TOKENS,
        _COST,
        Column("trace_id", "trace", 6),
    ),
    "journeys": (
        Column("engagement_id", "engagement"),
        Column("name", "name", 7),
        Column("status", "status"),
        Column("path", "path", gives_way=True, least=36),
        Column("user_id", "user", 6),
        Column("started_at", "started UTC", 5),
        Column("turns", "turns", 2),
        Column("working_ms", "working", 3),
        Column("waiting_ms", "waiting", 4, only_if_any=True),
        _TOKENS,
        _COST,
    ),
    "paths": (
        Column("engagements", "", 2, is_bar=True),
        Column("engagements", "engagements"),
        Column("share", "share"),
        Column("path", "path", gives_way=True, least=36),
        Column("completed", "completed", 3),
        Column("abandoned", "abandoned", 3),
        Column("failed", "failed", 4),
        Column("p50_working_ms", "p50", 5),
        _TOKENS,
        _COST,
        _ID,
    ),
    "drop_offs": (
        Column("step", "step", gives_way=True),
        Column("status", "status"),
        Column("reason", "reason", 1, only_if_any=True),
        Column("engagements", "", 2, is_bar=True),
        Column("engagements", "engagements"),
        Column("share", "of all", 1),
        Column("of_reached", "of step", 1),
        Column("p50_lived_ms", "p50 lived", 5),
        _TOKENS,
        _COST,
        _ID,
    ),
    "step_stats": (
        Column("step", "step", gives_way=True),
        Column("engagements", "engagements", 6),
        Column("visits", "visits"),
        Column("waited", "waited", 5, only_if_any=True),
        Column("failed", "failed", 1),
        Column("failure_rate", "fail rate", 7),
        Column("p50_working_ms", "p50"),
        Column("p95_working_ms", "p95"),
        Column("p99_working_ms", "p99", 3),
        Column("p50_waiting_ms", "p50 waiting", 4, only_if_any=True),
        Column("llm_calls", "model calls", 6),
        Column("tool_calls", "tool calls", 6, only_if_any=True),
        _TOKENS,
        _COST,
        _NO_USAGE,
        _UNPRICED,
    ),
    "usage_by": (
        Column("key", "", gives_way=True),
        Column("split", "split", only_if_any=True),
        Column("total_tokens", "", 3, is_bar=True),
        Column("calls", "calls"),
        Column("input_tokens", "input", 2),
        Column("output_tokens", "output", 2),
        Column("cache_read_tokens", "cached", 5, only_if_any=True),
        Column("reasoning_tokens", "reasoning", 6, only_if_any=True),
        Column("total_tokens", "tokens"),
        Column("cost_usd", "cost"),
        Column("calls_without_usage", "no usage", 1, only_if_any=True),
        Column("unpriced_calls", "unpriced", 1, only_if_any=True),
        Column("replayed_tokens", "replayed", 7, only_if_any=True),
        Column("retried_tokens", "retried", 7, only_if_any=True),
        Column("forked_tokens", "forked", 7, only_if_any=True),
        Column("engagements", "engagements", 8),
    ),
    "cohorts": (
        Column("cohort", "cohort"),
        Column("users", "users"),
        Column("engagements", "engagements"),
        Column("completed", "completed"),
        Column("abandoned", "abandoned", 2),
        Column("failed", "failed", 2),
        Column("completion_rate", "completed %"),
        Column("engagements_per_user", "per user"),
        _TOKENS,
        _COST,
    ),
    "retention": (
        Column("cohort", "cohort"),
        Column("period", "period"),
        Column("users", "users"),
        Column("returned", "returned"),
        Column("rate", "rate"),
        Column("rate", "", 2, is_bar=True),
    ),
    "compare": (
        Column("metric", "metric", gives_way=True),
        Column("a", "a"),
        Column("b", "b"),
        Column("difference", "b − a"),
        Column("ratio", "b / a"),
    ),
    "engagements_by": (
        Column("key", "", gives_way=True),
        Column("engagements", "", 3, is_bar=True),
        Column("engagements", "engagements"),
        Column("active", "active", 1, only_if_any=True),
        Column("paused", "paused", 1, only_if_any=True),
        Column("completed", "completed"),
        Column("abandoned", "abandoned", 1, only_if_any=True),
        Column("failed", "failed", 1, only_if_any=True),
        Column("interrupted", "died", 1, only_if_any=True),
        Column("turns", "turns", 6),
        Column("working_ms", "working", 7),
        Column("waiting_ms", "waiting", 7, only_if_any=True),
        _TOKENS,
        _COST,
        Column("last_at", "last UTC", 8),
    ),
}
"""The columns of each question's table; what is not here is in frames, JSON and CSV."""


def shown(question: str, rows: Sequence[Row], *, keys: str | None = None) -> Shown:
    """Return the whole table, with no regard to room.

    Args:
        question: What was asked; it decides the columns.
        rows: What was answered.
        keys: What stands above the column `key`.
    """
    columns = tuple(
        column
        for column in COLUMNS[question]
        if not column.only_if_any or any(getattr(row, column.name) for row in rows)
    )
    if keys is not None:
        columns = tuple(
            Column("key", units.plain(keys), gives_way=True) if column.name == "key" else column
            for column in columns
        )
    most = {
        column.name: max((getattr(row, column.name) or 0 for row in rows), default=0)
        for column in columns
        if column.is_bar
    }
    return Shown(
        columns,
        [
            [
                _bar(getattr(row, column.name), most[column.name])
                if column.is_bar
                else cell(row, column.name)
                for column in columns
            ]
            for row in rows
        ],
    )


def fitting(table: Shown, width: int) -> Shown:
    """Leave out what ranks last, and cut what gives way, until a line has at most `width` cells."""
    columns = list(range(len(table.columns)))
    while _least(table, columns) > width:
        ranked = [at for at in columns if table.columns[at].rank]
        if not ranked:
            break
        # Of two that rank alike, the one further to the right goes first.
        columns.remove(max(ranked, key=lambda at: (table.columns[at].rank, at)))
    chosen = Shown(
        tuple(table.columns[at] for at in columns),
        [[line[at] for at in columns] for line in table.lines],
    )
    over = total_width(chosen) - width
    for at, column in enumerate(chosen.columns):
        if column.gives_way and over > 0:
            most = max(_widths(chosen)[at] - over, column.least)
            for line in chosen.lines:
                line[at] = cut(line[at], most)
    return chosen


def total_width(table: Shown) -> int:
    """Return how many cells the widest line has."""
    return sum(_widths(table)) + _GAP * max(len(table.columns) - 1, 0)


def cut(text: str, most: int) -> str:
    """Return text of at most so many cells; of a path that is longer, both ends."""
    if cell_len(text) <= most:
        return text
    first, *later = text.split(_TO)
    # Paths are alike where they begin.
    for at in range(1, len(later)):
        shorter = _TO.join([first, "…", *later[at:]])
        if cell_len(shorter) <= most:
            return shorter
    return set_cell_size(text, max(most - 1, 0)).rstrip() + "…"


def _least(table: Shown, columns: Sequence[int]) -> int:
    """Return the width of some columns when those that give way are as narrow as they get."""
    widths = _widths(table)
    least = [
        min(widths[at], table.columns[at].least) if table.columns[at].gives_way else widths[at]
        for at in columns
    ]
    return sum(least) + _GAP * max(len(columns) - 1, 0)


def _widths(table: Shown) -> list[int]:
    return [
        max([cell_len(column.header), *(cell_len(line[at]) for line in table.lines)])
        for at, column in enumerate(table.columns)
    ]


def cell(row: Row, name: str) -> str:
    """Return one value as a person reads it."""
    value = getattr(row, name)
    metric = getattr(row, "metric", None)
    if metric is None or name == "metric":
        return _as_text(name, value)
    if name == "ratio":
        return units.UNKNOWN if value is None else f"×{units.number(value)}"
    if name == "difference" and value is not None:
        sign = "−" if value < 0 else "+" if value > 0 else ""
        # 20% more could be the ratio of two rates as well as their difference.
        points = f"{abs(value) * 100:.1f} pp" if metric.endswith("_rate") else None
        return sign + (points or _as_text(metric, abs(value)))
    return _as_text(metric, value)


def _as_text(name: str, value: Any) -> str:
    if isinstance(value, tuple):
        steps = cast("tuple[str, ...]", value)
        return _TO.join(map(units.plain, steps)) or units.UNKNOWN
    if isinstance(value, date):
        return units.day(value)
    if isinstance(value, str):
        return units.plain(units.short_id(value) if name.endswith("engagement_id") else value)
    return _unit(name)(value)


def _unit(name: str) -> Callable[[Any], str]:
    """Return what writes a number of this name."""
    if "cost_usd" in name:
        return units.cost
    if name.endswith("_ms"):
        return units.duration
    if name.endswith("rate") or name in {"share", "of_reached"}:
        return units.share
    return units.number


def _bar(value: float | None, most: float) -> str:
    if not value or not most:
        return ""
    # Whoever came is to be seen.
    eighths = max(round(value / most * _BAR * 8), 1)
    whole, rest = divmod(eighths, 8)
    return "█" * whole + (_EIGHTHS[rest] if rest else "")
