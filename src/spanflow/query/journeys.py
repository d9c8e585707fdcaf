"""Reading journeys out of a ledger: lists of engagements, one whole engagement, and any SQL.

It opens the published file read-only and asks its views; it never writes, and it knows nothing of
journals.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Self

import duckdb

from spanflow import settings
from spanflow.errors import LedgerError, LedgerNotFoundError
from spanflow.ledger import retention
from spanflow.ledger.publish import refresh
from spanflow.model import Change, Engagement
from spanflow.query import proof
from spanflow.query.conditions import Condition, matches
from spanflow.query.engine import DuckDBEngine, Result
from spanflow.query.following import Follower, latest_changes
from spanflow.query.opening import Opened, in_one_line
from spanflow.query.questions import Questions
from spanflow.query.statement import statement
from spanflow.query.whole import history_of, model_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime, timedelta
    from types import TracebackType

    from spanflow.ledger.digest import Verdict
    from spanflow.ledger.retention import Erased

__all__ = ["Ledger", "Result", "connect"]

_CANDIDATES_SHOWN = 5


def connect(path: str | Path | None = None) -> Ledger:
    """Bring a ledger up to date and open it for reading.

    Args:
        path: The ledger's file; without it, the one that ``SPANFLOW_LEDGER`` names.

    Raises:
        LedgerNotFoundError: There is no ledger there.
        LedgerError: The file is there and is no ledger, or is newer than this package.

    Example:
        >>> import spanflow
        >>> with spanflow.connect("desk.duckdb") as ledger:
        ...     for case in ledger.engagements({"user_id": "ada"}):
        ...         print(case.name, case.status, case.goal)
        support completed solved
    """
    return Ledger(path if path is not None else _from_environment())


class Ledger(Questions):
    """A ledger open for reading: use it in one thread, close it or let ``with`` do so.

    It shows the ledger as it was when it was opened; connect again to see what came since.

    Example:
        >>> import spanflow
        >>> with spanflow.connect("desk.duckdb") as ledger:
        ...     [turn] = ledger.engagement("case-17").history
        ...     reached = ledger.funnel(["triage", "answer"])[0].reached
        ...     tokens = ledger.sql("SELECT sum(total_tokens) AS tokens FROM llm_calls")
        >>> [step.name for step in turn.steps], reached, list(tokens)
        (['triage', 'answer'], 1, [{'tokens': 150}])
    """

    def __init__(self, path: str | Path) -> None:
        """Bring the ledger at `path` up to date and open it; :func:`connect` says what can fail."""
        self.path = Path(path)
        """The file that was opened."""
        refresh(self.path)
        self._opened = Opened(self.path)
        self._connection = self._opened.connection
        # Whoever asks the ledger may write no file and reach no other.
        self._opened.seal()
        super().__init__(DuckDBEngine(self._connection))

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
        self._opened.close()

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
            raise LedgerError(in_one_line(error)) from None

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
        query = statement("engagements").format(where=" AND ".join(conditions) or "true")
        # The narrow columns decide which, so that the wide ones of all others are never read.
        found = [row[0] for row in self.sql(query, [*params, limit]).rows]
        asked = ", ".join("?" * len(found)) or "NULL"
        rows = self.sql(f"FROM engagements WHERE engagement_id IN ({asked})", found)
        whole = {row["engagement_id"]: row for row in rows}
        return [model_of(Engagement, whole[one]) for one in found]

    def engagement(self, engagement_id: str) -> Engagement:
        """Return one engagement with all its turns, steps, calls and events.

        Args:
            engagement_id: Its id, or as much of its beginning or end as no other has.

        Raises:
            LedgerError: No engagement, or more than one, is meant.
        """
        asked = "FROM engagements WHERE engagement_id = ?"
        row = next(iter(self.sql(asked, [engagement_id])), None)
        if row is None:
            row = next(iter(self.sql(asked, [self.resolve(engagement_id)])))
        return model_of(Engagement, row, history=history_of(self.sql, row["engagement_id"]))

    def follow(
        self,
        *,
        interval_s: float = 1.0,
        from_start: bool = False,
        engagement_id: str | None = None,
    ) -> Iterator[Change]:
        """Yield what begins and what ends from now on, as it comes; it never ends by itself.

        It looks at the ledger's file anew each time, so this object goes on showing what it showed.
        What began and ended between two looks is told once, as ended.

        Args:
            interval_s: Seconds between two looks.
            from_start: Tell what the ledger holds already, too, oldest first.
            engagement_id: Tell of this engagement alone.

        Raises:
            LedgerError: The file could not be read several times in a row.
        """
        follower = Follower(self.path, engagement_id)
        if not from_start:
            follower.start_after(self._connection)
        return follower.changes(interval_s)

    def latest_changes(self, limit: int = 10, *, engagement_id: str | None = None) -> list[Change]:
        """Return what began or ended last, oldest first.

        Args:
            limit: How many at most.
            engagement_id: Of this engagement alone.
        """
        return latest_changes(self._connection, limit, engagement_id)

    def digest(self, engagement_id: str) -> str:
        """Return a digest of all facts of one engagement as they are now; keep it elsewhere."""
        return proof.digest_of(self.path, self.resolve(engagement_id))

    def verify(self, engagement_id: str, digest: str) -> Verdict:
        """Return whether an engagement is the ``same`` as when :meth:`digest` told of it.

        It is ``extended`` where spans or turns came late and nothing else is different, and
        ``altered`` where any fact was changed, removed, or added to a span that had ended.

        Raises:
            LedgerError: It is no digest of this engagement, or that one is not there.
        """
        return proof.verdict_on(self.path, engagement_id, digest)

    def purge(
        self, older_than: timedelta | str, now: datetime | None = None, *, dry_run: bool = False
    ) -> Erased:
        """Erase what ended longer ago than a window; :func:`spanflow.ledger.retention.purge`."""
        erased = retention.purge(self.path, older_than, now, dry_run=dry_run)
        self._open_anew()
        return erased

    def forget(
        self,
        *,
        user_id: str | None = None,
        engagement_id: str | None = None,
        dry_run: bool = False,
    ) -> Erased:
        """Erase all engagements of a user, or one by its whole id, whatever their status.

        What goes with them, and what can fail, is said at :func:`spanflow.ledger.retention.forget`.
        """
        erased = retention.forget(
            self.path, user_id=user_id, engagement_id=engagement_id, dry_run=dry_run
        )
        self._open_anew()
        return erased

    def _open_anew(self) -> None:
        """Let go of a file that still holds what was erased."""
        self.close()
        self.__init__(self.path)

    def resolve(self, part: str) -> str:
        """Return the id of the one engagement that is meant.

        Args:
            part: Its id, or as much of its beginning or end as no other has.

        Raises:
            LedgerError: No engagement, or more than one, is meant.
        """
        found = [
            str(row[0])
            for row in self.sql(
                statement("resolve"), {"part": part, "most": _CANDIDATES_SHOWN + 1}
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


def _from_environment() -> Path:
    path = settings.load().ledger
    if path is None:
        message = "No ledger was named. Give its path, or set SPANFLOW_LEDGER to it."
        raise LedgerNotFoundError(message)
    return path
