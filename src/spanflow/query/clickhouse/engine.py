"""Answers questions with the SQL files beside it, over any connection to ClickHouse.

It brings arguments, relations and rows together; what a question means is said in its file.
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any, cast

from spanflow.errors import LedgerError
from spanflow.query.clickhouse.arguments import parameters_of, sides_of
from spanflow.query.engine import Result

if TYPE_CHECKING:
    from collections.abc import Mapping

    from spanflow.query.clickhouse.servers import Parameter, Server

__all__ = ["QUESTIONS", "RELATIONS", "ClickHouseEngine"]

# Each stands on those before it.
RELATIONS = (
    "spans", "turns", "engaged", "engagements", "chosen", "visited", "asked", "journeys", "comers",
    "calls", "judged", "uncounted", "placed", "repeated",
)  # fmt: skip
QUESTIONS = (
    "funnel", "funnel_engagements", "journeys", "paths", "drop_offs", "step_stats", "usage_by",
    "cohorts", "retention", "compare", "engagements_by",
)  # fmt: skip
# What is told of calls by these alone can be checked call by call.
_ABOUT_CALLS = ("usage_by", "step_stats")
_SETTINGS = (
    "join_use_nulls = 1, session_timezone = 'UTC', date_time_output_format = 'simple', "
    "output_format_json_quote_64bit_integers = 0, output_format_json_quote_denormals = 0"
)
_MOST_STEPS = 60


class ClickHouseEngine:
    """The questions of a ledger, asked of a table of spans.

    Args:
        server: Where the table is.
    """

    def __init__(self, server: Server) -> None:
        self._server = server

    def ask(self, question: str, arguments: Mapping[str, object]) -> Result:
        """Answer one question; see :class:`spanflow.query.engine.Engine`.

        Raises:
            LedgerError: There is no such question, a step's name could be any of several, the calls
                in question cannot be told apart, or the server refuses.
        """
        if question not in QUESTIONS:
            message = f"ClickHouse is not asked for {question!r}; ask the ledger."
            raise LedgerError(message)
        given = parameters_of(question, arguments)
        named = cast("list[str]", given["steps"])
        if named:
            given["steps"] = self._paths(named, given)
        if question in _ABOUT_CALLS:
            self._check_calls(given)
        if question == "compare":
            return self._compare(arguments, given)
        return self._run(question, given)

    def close(self) -> None:
        """Close the connection."""
        self._server.close()

    def _run(self, question: str, given: Mapping[str, Parameter]) -> Result:
        told = self._server.query(
            _text(question),
            {**given, "database": self._server.database, "table": self._server.table},
        )
        kinds = [str(column["type"]) for column in told["meta"]]
        rows = [
            tuple(_value(kind, value) for kind, value in zip(kinds, row, strict=True))
            for row in cast("list[list[Any]]", told["data"])
        ]
        return Result(tuple(str(column["name"]) for column in told["meta"]), rows)

    def _paths(self, named: list[str], given: Mapping[str, Parameter]) -> list[str]:
        """Return the path that each name means: itself, else the only one that ends with it."""
        if len(named) > _MOST_STEPS:
            message = f"A funnel has {_MOST_STEPS} steps at most."
            raise LedgerError(message)
        known = [str(path) for (path,) in self._run("named", given).rows]
        found: list[str] = []
        for name in named:
            inner = [path for path in known if path.endswith(f"/{name}")]
            if name in known or not inner:
                found.append(name)
            elif len(inner) == 1:
                found += inner
            else:
                message = f"the step {name} could be any of {', '.join(inner)}: give its whole path"
                raise LedgerError(message)
        return found

    def _check_calls(self, given: Mapping[str, Parameter]) -> None:
        [(missing, twice, foreign)] = self._run("doubtful", given).rows
        why = [
            f"{what}: {count}"
            for count, what in (
                (missing, "turns with fewer calls than they told of (sampled, or lost)"),
                (twice, "turns or traces with calls that several spans may tell"),
                (foreign, "calls told in words that are not read here"),
            )
            if count
        ]
        if why:
            message = (
                f"ClickHouse cannot say which calls count: {'; '.join(why)}. Ask the ledger, or "
                "`spanflow ingest` the same spans."
            )
            raise LedgerError(message)

    def _compare(self, arguments: Mapping[str, object], given: Mapping[str, Parameter]) -> Result:
        columns: tuple[str, ...] = ()
        sides: list[tuple[Any, ...]] = []
        for side in sides_of(arguments):
            told = self._run("compare", {**given, **side})
            columns = told.columns
            sides += told.rows
        rows = [
            (
                metric,
                a,
                b,
                None if a is None or b is None else b - a,
                None if a is None or b is None or a == 0 else b / a,
            )
            for metric, a, b in zip(columns, *sides, strict=True)
        ]
        return Result(("metric", "a", "b", "difference", "ratio"), rows)


@cache
def _text(question: str) -> str:
    """Return a query: the words, the relations, and the question itself."""
    folder = resources.files(__package__ or "spanflow.query.clickhouse")

    def read(*path: str) -> str:
        return folder.joinpath(*path).read_text("utf-8").strip()

    relations = [f"{name} AS (\n{read('base', f'{name}.sql')}\n)" for name in RELATIONS]
    parts = ",\n".join([read("base", "words.sql"), *relations])
    return f"WITH\n{parts}\n{read('questions', f'{question}.sql')}\nSETTINGS {_SETTINGS}"


def _value(kind: str, value: Any) -> Any:
    """Return a value as DuckDB hands it out, read from ClickHouse's JSON."""
    if value is None:
        return None
    if "DateTime" in kind:
        read = datetime.fromisoformat(value)
        return read.astimezone(UTC).replace(tzinfo=None) if read.tzinfo else read
    if "Date" in kind:
        return date.fromisoformat(value)
    if "Float" in kind:
        return float(value)
    return value
