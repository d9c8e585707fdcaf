"""What questions about many engagements return: rows that print, convert and draw themselves.

It holds the rows an engine answered and changes nothing in them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast, overload

from rich.cells import cell_len

from spanflow.errors import LedgerError
from spanflow.query import frames, units
from spanflow.query.pictures import Picture, draw
from spanflow.query.rows import FunnelEngagement, FunnelStep, Row, columns
from spanflow.query.shown import Shown, fitting, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

__all__ = ["Answer", "Funnel"]

R = TypeVar("R", bound=Row)

_LINES = 60
_WIDTH = 120
_OUTCOMES = ("advanced", "waiting", "active", "failed", "interrupted", "dropped")
_TABLE = "border-collapse:collapse;font-variant-numeric:tabular-nums"
_CELL = "padding:2px 10px;border:0;white-space:nowrap"


@dataclass(frozen=True, repr=False)
class Answer(Generic[R]):
    """The rows of an answer: iterate over them, index them, print them, convert or draw them."""

    question: str
    """What was asked: the name of the macro that answers it in SQL."""
    row: type[R]
    """What each row is."""
    rows: tuple[R, ...]
    """The rows, in the question's order."""
    arguments: Mapping[str, object] = field(default_factory=dict[str, object])
    """What was asked for: the macro's parameters."""

    def __iter__(self) -> Iterator[R]:
        """Yield the rows in order."""
        return iter(self.rows)

    def __len__(self) -> int:
        """Return how many rows there are."""
        return len(self.rows)

    @overload
    def __getitem__(self, at: int) -> R: ...
    @overload
    def __getitem__(self, at: slice) -> tuple[R, ...]: ...
    def __getitem__(self, at: int | slice) -> R | tuple[R, ...]:
        """Return a row, or some, by place."""
        return self.rows[at]

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of all columns, in order."""
        return tuple(columns(self.row))

    def df(self) -> Any:
        """Return a ``pandas.DataFrame`` with types that know nulls.

        Raises:
            LedgerError: pandas is not installed.
        """
        return frames.pandas_frame(self.row, self.rows)

    def pl(self) -> Any:
        """Return a ``polars.DataFrame``.

        Raises:
            LedgerError: polars is not installed.
        """
        return frames.polars_frame(self.row, self.rows)

    def arrow(self) -> Any:
        """Return a ``pyarrow.Table``.

        Raises:
            LedgerError: pyarrow is not installed.
        """
        return frames.arrow_table(self.row, self.rows)

    def plot(self) -> Picture:
        """Draw it; a notebook shows the picture, ``save`` writes it as PNG, SVG or PDF.

        Raises:
            LedgerError: There is no picture of this question, or matplotlib is not installed.
        """
        return draw(self)

    def shown(self) -> Shown:
        """Return the table that is printed, whole."""
        by = self.arguments.get("by", self.arguments.get("key"))
        return shown(self.question, self.rows, keys=None if by is None else str(by))

    def __str__(self) -> str:
        """Return an aligned table of the columns that matter most."""
        if not self.rows:
            return f"{self.question}: no rows"
        table = fitting(self.shown(), _WIDTH)
        lines = [[column.header for column in table.columns], *table.lines[:_LINES]]
        pads = [_right if column.is_number else _left for column in table.columns]
        widths = [max(cell_len(line[at]) for line in lines) for at in range(len(table.columns))]
        text = [
            "  ".join(pad(one, width) for pad, one, width in zip(pads, line, widths, strict=True))
            for line in lines
        ]
        more = len(table.lines) - _LINES
        return "\n".join(line.rstrip() for line in [*text, *_more(more)])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        """Return the same as a table for a notebook, bars behind the numbers."""
        table = self.shown()
        bars = {column.name for column in table.columns if column.is_bar}
        # The bar stands behind its number.
        kept = [at for at, column in enumerate(table.columns) if not column.is_bar]
        most = {name: max((getattr(r, name) or 0 for r in self.rows), default=0) for name in bars}
        head = "".join(
            _html("th", table.columns[at].header, is_number=table.columns[at].is_number)
            for at in kept
        )
        body = [
            "".join(
                _html(
                    "td",
                    line[at],
                    is_number=table.columns[at].is_number,
                    part=_part(row, table.columns[at].name, most),
                )
                for at in kept
            )
            for row, line in zip(self.rows[:_LINES], table.lines, strict=False)
        ]
        more = "".join(f"<p>{one}</p>" for one in _more(len(self.rows) - _LINES))
        rows = "".join(f"<tr>{line}</tr>" for line in body)
        return (
            f'<table style="{_TABLE}"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'
            f"{more}"
        )


@dataclass(frozen=True, repr=False)
class Funnel(Answer[FunnelStep]):
    """A funnel: one row a step; :meth:`engagements` tells who stands behind a number."""

    drill: Callable[[], Answer[FunnelEngagement]] | None = field(default=None, compare=False)
    """Asks for the engagements behind the numbers."""

    def engagements(
        self, step: str | None = None, outcome: str | None = None
    ) -> Answer[FunnelEngagement]:
        """Return the engagements behind a number, each with the trace of its last visit.

        Args:
            step: Those that reached this step: its path, or as it was asked for; None for all.
            outcome: What became of them there: ``advanced``, ``waiting``, ``active``, ``failed``,
                ``interrupted`` or ``dropped``; None for all.

        Raises:
            LedgerError: The funnel has no such step, or there is no such outcome.
        """
        if outcome is not None and outcome not in _OUTCOMES:
            message = f"{outcome!r} is none of {', '.join(_OUTCOMES)}."
            raise LedgerError(message)
        positions = self._positions(step)
        if self.drill is None:
            message = "This funnel was made by hand; ask a ledger for one."
            raise LedgerError(message)
        found = self.drill()
        rows = tuple(
            row for row in found if row.position in positions and outcome in {None, row.outcome}
        )
        return Answer(found.question, found.row, rows, found.arguments)

    def _positions(self, step: str | None) -> set[int]:
        given = cast("list[str]", self.arguments.get("steps", []))
        found = {
            row.position
            for row in self.rows
            if step in {None, row.step} or given[row.position - 1 : row.position] == [step]
        }
        if step is not None and not found:
            message = f"The funnel has no step {step!r}; it has {', '.join(r.step for r in self)}."
            raise LedgerError(message)
        return found


def _left(text: str, width: int) -> str:
    return text + " " * (width - cell_len(text))


def _right(text: str, width: int) -> str:
    return " " * (width - cell_len(text)) + text


def _more(count: int) -> list[str]:
    return [f"… and {units.count(count)} more rows"] if count > 0 else []


def _part(row: Row, name: str, most: Mapping[str, float]) -> float | None:
    value, largest = getattr(row, name), most.get(name)
    return value / largest if value and largest else None


def _html(tag: str, text: str, *, is_number: bool, part: float | None = None) -> str:
    style = f"{_CELL};text-align:{'right' if is_number else 'left'}"
    if part is not None:
        # See-through, so that it can be read on a light and on a dark page.
        blue = f"rgba(0,114,178,.28) {part:.1%}"
        style += f";background:linear-gradient(90deg,{blue},transparent {part:.1%})"
    return f'<{tag} style="{style}">{escape(text)}</{tag}>'
