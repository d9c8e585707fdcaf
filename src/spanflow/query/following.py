"""Follows a ledger: what began and what ended since one looked last, for live views.

Each look opens the published file anew, because it is replaced and never written in place. What is
remembered is a place in the ledger and the last few thousand changes, never its history.
"""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import duckdb

from spanflow import guard
from spanflow.errors import LedgerError, LedgerNotFoundError
from spanflow.ledger.ingest import ingest
from spanflow.ledger.places import Places
from spanflow.ledger.publish import publish
from spanflow.model import Change, TokenUsage
from spanflow.query.opening import Opened, in_one_line
from spanflow.query.statement import statement

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from pathlib import Path

__all__ = ["Follower", "latest_changes"]

_PAGE_ROWS = 2_000
_REMEMBERED = 50_000
_FAILURES_BORNE = 5
# A ledger that begins anew counts its revisions anew; then time tells what is news, give or take.
_MARGIN_NS = 60 * 1_000_000_000
_LAST_NS = 2**63 - 1

_SINCE = (
    "r.revision >= $revision AND told_ns >= $not_before AND "
    "(r.revision, told_ns, r.trace_id, r.span_id) > ($revision, $told_ns, $trace_id, $span_id)"
)
_IN_ORDER = "r.revision, told_ns, r.trace_id, r.span_id"


class _Place(NamedTuple):
    """How far a follower has come; rows are told in this order."""

    revision: int
    told_ns: int = _LAST_NS
    trace_id: str = ""
    span_id: str = ""


_BEGINNING = _Place(-1)


class _Version(NamedTuple):
    """Which state of which ledger a file holds."""

    created_at: datetime
    revision: int
    gone_ns: int


@dataclass(slots=True)
class Follower:
    """One reader's way through a ledger's changes.

    Attributes:
        path: The published file.
        engagement_id: Tell of this engagement alone; None for all.
    """

    path: Path
    engagement_id: str | None = None
    _version: _Version | None = None
    _place: _Place = _BEGINNING
    _newest_ns: int = 0
    _told: dict[int, None] = field(default_factory=dict[int, None])
    _file: tuple[int, int, int] | None = None

    def start_after(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Take what an open ledger shows as known: only what comes later is told."""
        self._version = _version(connection)
        self._place = _Place(self._version.revision)
        self._newest_ns = time.time_ns()

    def changes(self, interval_s: float) -> Iterator[Change]:
        """Yield changes as they come, for ever.

        Args:
            interval_s: Seconds between two looks.

        Raises:
            LedgerError: The file could not be read several times in a row.
        """
        failures = 0
        while True:
            try:
                yield from self.look()
                failures = 0
            except LedgerNotFoundError:
                # Removed, to begin anew: there is nothing new in it.
                self._file = None
            except LedgerError:
                failures += 1
                if failures > _FAILURES_BORNE:
                    raise
            time.sleep(interval_s)

    def look(self) -> Iterator[Change]:
        """Yield what is new since the last look, and end.

        Raises:
            LedgerNotFoundError: There is no ledger now.
            LedgerError: It cannot be read now.
        """
        _bring_up_to_date(self.path)
        file = _identity(self.path)
        if file == self._file:
            return
        with closing(Opened(self.path, threads=1)) as opened:
            try:
                yield from self._news(opened)
            except duckdb.Error as error:
                message = f"{self.path} cannot be read as a ledger: {in_one_line(error)}"
                raise LedgerError(message) from None
        self._file = file

    def _news(self, opened: Opened) -> Iterator[Change]:
        known, version = self._version, _version(opened.connection)
        not_before = 0
        if opened.is_migrated or (
            known is not None
            and (known.created_at != version.created_at or version.revision < known.revision)
        ):
            self._place = _BEGINNING
            not_before = self._newest_ns - _MARGIN_NS
        while rows := self._page(opened, _SINCE, not_before=not_before, **self._place._asdict()):
            yield from self._tell(rows)
        if known is not None and version.gone_ns > known.gone_ns:
            # What these had begun is interrupted now, though its rows were written before.
            place = _BEGINNING
            where = f"r.phase <> 'end' AND p.gone_at_ns > $gone_ns AND {_SINCE}"
            given: dict[str, Any] = {"gone_ns": known.gone_ns, "not_before": 0}
            while rows := self._page(opened, where, **given, **place._asdict()):
                place = _place(rows[-1])
                yield from self._tell(rows, moving=False)
        self._version, self._place = version, _Place(version.revision)

    def _page(self, opened: Opened, where: str, **given: object) -> list[dict[str, Any]]:
        given |= {"engagement_id": self.engagement_id, "most": _PAGE_ROWS}
        return _rows(
            opened.connection, statement("changes").format(where=where, order=_IN_ORDER), given
        )

    def _tell(self, rows: list[dict[str, Any]], *, moving: bool = True) -> Iterator[Change]:
        for row in rows:
            if moving:
                self._place = _place(row)
                self._newest_ns = max(self._newest_ns, int(row["told_ns"]))
            if self._is_new(row):
                yield _change(row)

    def _is_new(self, row: dict[str, Any]) -> bool:
        """Whether this was not told: a row is written again when a second feed adds to it."""
        key = hash((row["trace_id"], row["span_id"], row["phase"], row["status"]))
        if key in self._told:
            return False
        self._told[key] = None
        if len(self._told) > _REMEMBERED:
            del self._told[next(iter(self._told))]
        return True


def latest_changes(
    connection: duckdb.DuckDBPyConnection, most: int, engagement_id: str | None = None
) -> list[Change]:
    """Return the newest changes of an open ledger, oldest first; of each span its latest alone.

    Args:
        connection: The ledger's connection.
        most: How many at most.
        engagement_id: Of this engagement alone; None for all.
    """
    query = statement("changes").format(
        where="true", order="told_ns DESC, r.trace_id DESC, r.span_id DESC"
    )
    rows = _rows(connection, query, {"engagement_id": engagement_id, "most": most})
    return [_change(row) for row in reversed(rows)]


def _bring_up_to_date(path: Path) -> None:
    if not Places.of(path).directory.is_dir():
        return
    try:
        ingest(path)
        publish(path)
    except OSError as error:
        guard.diagnose("ledger.refresh", f"{error!r}; the file is read as it is")


def _identity(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _version(connection: duckdb.DuckDBPyConnection) -> _Version:
    [row] = connection.execute(
        "SELECT created_at, revision, (SELECT coalesce(max(gone_at_ns), 0) FROM processes) "
        "FROM meta"
    ).fetchall()
    return _Version(*row)


def _place(row: dict[str, Any]) -> _Place:
    return _Place(row["revision"], row["told_ns"], row["trace_id"], row["span_id"])


def _change(row: dict[str, Any]) -> Change:
    usage = TokenUsage.model_validate({name: row[name] for name in TokenUsage.model_fields})
    return Change.model_validate({**row, "usage": usage})


def _rows(
    connection: duckdb.DuckDBPyConnection, query: str, params: dict[str, Any]
) -> list[dict[str, Any]]:
    cursor = connection.execute(query, params)
    names = [str(column[0]) for column in cursor.description or ()]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
