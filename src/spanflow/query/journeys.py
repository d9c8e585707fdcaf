"""Reading journeys out of a ledger: lists of engagements, one whole engagement, and any SQL.

It opens the published file read-only and asks its views; it never writes, and it knows nothing of
journals.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from importlib import resources
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeAlias, TypeVar, cast

import duckdb

from spanflow import settings
from spanflow.errors import LedgerError, LedgerNotFoundError
from spanflow.ledger.publish import refresh
from spanflow.model import (
    Engagement,
    Event,
    LlmCall,
    Step,
    TokenUsage,
    ToolCall,
    Turn,
    Wait,
)
from spanflow.query.conditions import Condition, matches

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from types import TracebackType

    from pydantic import BaseModel

    Row = dict[str, Any]

__all__ = ["Ledger", "Result", "connect"]

_M = TypeVar("_M", bound="BaseModel")
_T = TypeVar("_T")
# Things by the turn and the step they happened in.
_Placed: TypeAlias = "dict[tuple[str | None, str | None], tuple[_T, ...]]"
_JSON_COLUMNS = frozenset({"metadata", "payload", "tools_available", "arguments", "result"})
_CANDIDATES_SHOWN = 5


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


def connect(path: str | Path | None = None) -> Ledger:
    """Bring a ledger up to date and open it for reading.

    Args:
        path: The ledger's file; without it, the one that ``SPANFLOW_LEDGER`` names.

    Raises:
        LedgerNotFoundError: There is no ledger there.
        LedgerError: The file is there and is no ledger, or is newer than this package.
    """
    return Ledger(path if path is not None else _from_environment())


class Ledger:
    """A ledger open for reading: use it in one thread, close it or let ``with`` do so.

    It shows the ledger as it was when it was opened; connect again to see what came since.
    """

    def __init__(self, path: str | Path) -> None:
        """Bring the ledger at `path` up to date and open it; :func:`connect` says what can fail."""
        self.path = Path(path)
        """The file that was opened."""
        refresh(self.path)
        if not self.path.is_file():
            message = (
                f"There is no ledger at {self.path}. Make one with "
                f"`SPANFLOW_LEDGER={self.path} opentelemetry-instrument python app.py` "
                "or `spanflow run app.py`."
            )
            raise LedgerNotFoundError(message)
        # Attached to an instance of its own: duckdb shares one instance among all that open a path
        # in a process, and would go on showing the old file after a newer one was moved into its
        # place.
        self._connection = duckdb.connect()
        try:
            quoted = str(self.path).replace("'", "''")
            self._connection.execute(f"ATTACH '{quoted}' AS ledger (READ_ONLY)")
            self._connection.execute("USE ledger")
            self._connection.execute("SELECT engagement_id FROM engagements LIMIT 0")
        except duckdb.Error as error:
            self._connection.close()
            message = f"{self.path} cannot be read as a ledger: {_in_one_line(error)}"
            raise LedgerError(message) from None

    def __enter__(self) -> Self:
        """Return the ledger itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close it."""
        self.close()

    def close(self) -> None:
        """Close the file; closing twice does nothing."""
        self._connection.close()

    def sql(
        self, query: str, params: Sequence[object] | Mapping[str, object] | None = None
    ) -> Result:
        """Ask anything of the ledger's views and tables.

        Args:
            query: One SQL statement in DuckDB's dialect; it cannot change the ledger.
            params: Values for ``?`` or ``$name`` in it.

        Raises:
            LedgerError: The query is wrong, or would change the ledger.
        """
        try:
            cursor = self._connection.execute(query, params)
            columns = tuple(str(column[0]) for column in cursor.description or ())
            return Result(columns, cursor.fetchall() if columns else [])
        except duckdb.Error as error:
            raise LedgerError(_in_one_line(error)) from None

    def engagements(
        self,
        where: Mapping[str, Condition] | None = None,
        *,
        status: str | None = None,
        limit: int | None = 50,
    ) -> list[Engagement]:
        """List engagements, the newest first.

        Args:
            where: What must hold of every one: ``user_id``, ``session_id``, ``conversation_id``,
                ``name`` or ``service_name``, and otherwise a key of its metadata. Values are
                compared with their type: 1, "1" and true are three values; None asks for a null.
            status: The status it must have.
            limit: How many at most; None for all.
        """
        conditions, params = matches(where or {})
        if status is not None:
            conditions.append("status = ?")
            params.append(status)
        query = _text("engagements.sql").format(where=" AND ".join(conditions) or "true")
        if limit is not None:
            query += "\nLIMIT ?"
            params.append(limit)
        return [_model(Engagement, row) for row in self.sql(query, params)]

    def engagement(self, engagement_id: str) -> Engagement:
        """Return one engagement with all its turns, steps, calls and events.

        Args:
            engagement_id: Its id, or as much of its beginning or end as no other has.

        Raises:
            LedgerError: No engagement, or more than one, is meant.
        """
        whole = self._resolve(engagement_id)
        row = next(iter(self.sql("FROM engagements WHERE engagement_id = ?", [whole])))
        return _model(Engagement, row, history=self._turns(whole))

    def _resolve(self, part: str) -> str:
        found = [
            str(row[0])
            for row in self.sql(
                _text("resolve.sql"), {"part": part, "most": _CANDIDATES_SHOWN + 1}
            ).rows
        ]
        if part in found:
            return part
        if len(found) == 1:
            return found[0]
        if not found:
            message = f"No engagement begins or ends with {part!r}. `spanflow ls` lists them."
            raise LedgerError(message)
        more = ", …" if len(found) > _CANDIDATES_SHOWN else ""
        some = ", ".join(found[:_CANDIDATES_SHOWN])
        message = f"{part!r} could be any of {some}{more}. Give more of the id."
        raise LedgerError(message)

    def _turns(self, engagement_id: str) -> tuple[Turn, ...]:
        calls = self._calls(engagement_id)
        events = self._by_place(Event, "events.sql", engagement_id)
        steps = self._steps(engagement_id, calls, events)
        return tuple(
            _model(
                Turn,
                row,
                steps=steps.get(row["turn_id"], ()),
                calls=calls.get((row["turn_id"], None), ()),
                events=events.get((row["turn_id"], None), ()),
            )
            for row in self.sql(_text("turns.sql"), [engagement_id])
        )

    def _steps(
        self,
        engagement_id: str,
        calls: _Placed[LlmCall | ToolCall],
        events: _Placed[Event],
    ) -> dict[str, tuple[Step, ...]]:
        """Return the top steps of each turn, the others inside them."""
        waits = {
            row["step_id"]: _model(Wait, row) for row in self._rows("waits.sql", engagement_id)
        }
        rows = self._rows("steps.sql", engagement_id)
        known = {row["step_id"] for row in rows}
        inside: defaultdict[tuple[str, str | None], list[Row]] = defaultdict(list)
        for row in rows:
            parent = row["parent_step_id"]
            inside[row["turn_id"], parent if parent in known else None].append(row)

        def grow(turn_id: str, parent: str | None) -> tuple[Step, ...]:
            return tuple(
                _model(
                    Step,
                    row,
                    wait=waits.get(row["step_id"]),
                    steps=grow(turn_id, row["step_id"]),
                    calls=calls.get((turn_id, row["step_id"]), ()),
                    events=events.get((turn_id, row["step_id"]), ()),
                )
                for row in inside.pop((turn_id, parent), ())
            )

        turns = {turn: grow(turn, None) for turn in dict.fromkeys(row["turn_id"] for row in rows)}
        # A malformed record may name a parent in another turn, or one inside itself: such steps are
        # shown at the top.
        for turn_id, parent in list(inside):
            turns[turn_id] = (*turns[turn_id], *grow(turn_id, parent))
        return turns

    def _calls(self, engagement_id: str) -> _Placed[LlmCall | ToolCall]:
        placed: _Placed[LlmCall | ToolCall] = {
            **self._by_place(LlmCall, "llm_calls.sql", engagement_id)
        }
        for place, tools in self._by_place(ToolCall, "tool_calls.sql", engagement_id).items():
            together = (*placed.get(place, ()), *tools)
            timed = [call for call in together if call.started_at is not None]
            rest = [call for call in together if call.started_at is None]
            placed[place] = (*sorted(timed, key=attrgetter("started_at")), *rest)
        return placed

    def _by_place(self, model: type[_M], file: str, engagement_id: str) -> _Placed[_M]:
        placed: defaultdict[tuple[str | None, str | None], list[_M]] = defaultdict(list)
        for row in self._rows(file, engagement_id):
            placed[row["turn_id"], row["step_id"]].append(_model(model, row))
        return {place: tuple(found) for place, found in placed.items()}

    def _rows(self, file: str, engagement_id: str) -> list[Row]:
        return list(self.sql(_text(file), [engagement_id]))


def _from_environment() -> Path:
    path = settings.load().ledger
    if path is None:
        message = "No ledger was named. Give its path, or set SPANFLOW_LEDGER to it."
        raise LedgerNotFoundError(message)
    return path


def _model(model: type[_M], row: Row, **more: object) -> _M:
    """Make a model of a row; columns that are null take the model's default."""
    values = {name: _read(name, value) for name, value in row.items() if value is not None}
    if "usage" in model.model_fields:
        values["usage"] = {name: values.get(name) for name in TokenUsage.model_fields}
    # A wrong value of a stranger's must not hide a whole engagement: it was judged when it was
    # ingested.
    return model.model_validate({**values, **more})


def _read(name: str, value: object) -> object:
    if name not in _JSON_COLUMNS or not isinstance(value, str):
        return value
    try:
        read = cast("object", json.loads(value))
    except ValueError:
        return value
    return read


@cache
def _text(file: str) -> str:
    return resources.files("spanflow.query").joinpath("sql", file).read_text(encoding="utf-8")


def _in_one_line(error: BaseException) -> str:
    """Return what DuckDB says without the excerpt of the query that it draws below."""
    return " ".join(str(error).partition("\n\nLINE ")[0].split())
