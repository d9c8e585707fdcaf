"""What answers questions about journeys: one method, so that any database can stand behind it.

Here is the seam and the engine for a ledger, which calls the macros in its file. Another engine
lives beside this module and answers the same questions with the same columns. What becomes of the
rows is not decided here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Protocol

import duckdb

from spanflow.errors import LedgerError
from spanflow.query.opening import in_one_line

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["DuckDBEngine", "Engine", "Result"]

# What a macro takes by its place; everything else it takes by name.
_BY_PLACE = {
    "funnel": ("steps",),
    "funnel_engagements": ("steps",),
    "usage_by": ("by",),
    "engagements_by": ("key",),
    "compare": ("a", "b"),
}
_KINDS = {
    "steps": "VARCHAR[]",
    "ordered": "BOOLEAN",
    "nested": "BOOLEAN",
    "depth": "INTEGER",
    "newest": "BIGINT",
    "within": "INTERVAL",
    "idle_after": "INTERVAL",
    "since": "TIMESTAMP",
    "until": "TIMESTAMP",
    "as_of": "TIMESTAMP",
    "metadata": "JSON",
    "a": "JSON",
    "b": "JSON",
}


@dataclass(frozen=True, slots=True)
class Result:
    """What a query answered; iterate over it for one dict a row."""

    columns: tuple[str, ...]
    """The columns' names, in order."""
    rows: list[tuple[Any, ...]]
    """The values, in the columns' order."""

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield every row as a dict."""
        return (dict(zip(self.columns, row, strict=True)) for row in self.rows)

    def __len__(self) -> int:
        """Return how many rows there are."""
        return len(self.rows)


class Engine(Protocol):
    """Whatever can answer the questions that a ledger's macros answer."""

    def ask(self, question: str, arguments: Mapping[str, object]) -> Result:
        """Answer one question.

        Args:
            question: The macro's name: ``funnel``, ``funnel_engagements``, ``journeys``, …
            arguments: Its parameters by name; one that is not given is not there. Times are naive
                ``datetime`` in UTC, spans of time ``timedelta``, steps a list of text, filters
                (``metadata``, ``a``, ``b``) dicts, the others text, whole numbers and booleans.

        Raises:
            LedgerError: It cannot be answered; the message says why.
        """
        ...


class DuckDBEngine:
    """The macros in a ledger's file, asked over a connection whose default database it is."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection

    def ask(self, question: str, arguments: Mapping[str, object]) -> Result:
        """Call the macro; every value goes there as a parameter, none as text in the query."""
        placed = _BY_PLACE.get(question, ())
        parts = [f"${name}::{_KINDS.get(name, 'VARCHAR')}" for name in placed]
        parts += [
            f"{name} := ${name}::{_KINDS.get(name, 'VARCHAR')}"
            for name in arguments
            if name not in placed
        ]
        query = f"FROM {question}({', '.join(parts)})"
        values = {name: _bound(value) for name, value in arguments.items()}
        try:
            cursor = self._connection.execute(query, values)
            columns = tuple(str(column[0]) for column in cursor.description or ())
            return Result(columns, cursor.fetchall())
        except duckdb.Error as error:
            raise LedgerError(in_one_line(error)) from None


def _bound(value: object) -> object:
    if isinstance(value, Mapping):
        # Times in a filter are written as DuckDB reads them.
        return json.dumps(value, ensure_ascii=False, default=str)
    if isinstance(value, timedelta):
        return f"{value // timedelta(microseconds=1)} microseconds"
    return value
