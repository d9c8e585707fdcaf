"""Takes another ledger into this one: what another host, or another file, has recorded.

Its records are merged as if they had come through the journal, so that order and repetition change
nothing. The other file is read and never written; how records become rows is not decided here.
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from spanflow.errors import LedgerError, LedgerNotFoundError
from spanflow.ledger.connections import transaction
from spanflow.ledger.damage import first_line, write_ahead_log
from spanflow.ledger.election import elected
from spanflow.ledger.pace import swift
from spanflow.ledger.places import PRIVATE_FILE, Places
from spanflow.ledger.process import ALIVE_SUFFIX, lock_file
from spanflow.ledger.publish import refresh

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    import duckdb

__all__ = ["JoinReport", "join"]

SLICE_ROWS = 100_000
"""Rows of about this number are merged in one transaction."""

_WAITS_S = 60.0


@dataclass(frozen=True, slots=True)
class JoinReport:
    """What taking in another ledger did.

    Attributes:
        spans: Rows of the other ledger.
        turns_touched: Turns whose facts were computed anew.
        changed: Whether any row of this ledger changed.
    """

    spans: int = 0
    turns_touched: int = 0
    changed: bool = False


class _Slice(NamedTuple):
    number: int
    rows: int
    first_ns: int
    last_ns: int


def join(
    ledger: Path, other: Path, *, progress: Callable[[int, int], None] = lambda _done, _of: None
) -> JoinReport:
    """Merge everything another ledger holds into this one; publishing is left to the caller.

    Args:
        ledger: The published file of the ledger that grows, which need not exist.
        other: The published file of another, of this version or an older one.
        progress: Called after every slice with rows done and rows in all.

    Raises:
        LedgerNotFoundError: There is no file at `other`.
        LedgerError: It is this very ledger, no ledger of ours, or newer than this package; or an
            ingester was at work all the time.
        OSError: The folder cannot be used.
    """
    places = Places.of(ledger)
    _refuse_itself(places, other)
    refresh(other)
    if not other.is_file():
        message = f"There is no ledger at {other}."
        raise LedgerNotFoundError(message)
    places.make()
    with _alone(places) as copy:
        slices = _prepare(other, copy)
        total = sum(one.rows for one in slices)
        report = JoinReport()
        for one in slices:
            turns, changed = _take(places, copy, one, last=one is slices[-1])
            report = JoinReport(
                report.spans + one.rows, report.turns_touched + turns, report.changed or changed
            )
            progress(report.spans, total)
        return report


def _refuse_itself(places: Places, other: Path) -> None:
    theirs = Places.of(other).ledger
    itself = theirs == places.ledger
    if theirs.exists() and places.ledger.exists():
        itself = itself or theirs.samefile(places.ledger)
    if itself or places.directory in theirs.parents:
        message = f"{other} belongs to the ledger {places.ledger} itself; there is nothing to take."
        raise LedgerError(message)
    if theirs.name == places.store.name and theirs.parent.suffix == ".d":
        message = f"{other} is the private store of a ledger. Name {theirs.parent.stem} instead."
        raise LedgerError(message)


@contextlib.contextmanager
def _alone(places: Places) -> Generator[Path]:
    """Yield where the other ledger's copy goes; one at a time, so that a killed one is found."""
    lock = places.directory / "joining.lock"
    copy = places.directory / "joining.duckdb"
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE_FILE)
    try:
        if not lock_file(descriptor):
            message = (
                f"Another process is taking a ledger into {places.ledger}. Try again after it."
            )
            raise LedgerError(message)
        _remove(copy)
        try:
            yield copy
        finally:
            _remove(copy)
    finally:
        os.close(descriptor)


def _remove(copy: Path) -> None:
    for path in (copy, write_ahead_log(copy)):
        path.unlink(missing_ok=True)


def _prepare(other: Path, copy: Path) -> list[_Slice]:
    """Copy the other ledger; return its slices, of which there is at least one."""
    import duckdb  # noqa: PLC0415 - a fifth of a second that the span path must never pay

    from spanflow.ledger.migrated import copy_migrated, is_current  # noqa: PLC0415 - likewise
    from spanflow.ledger.statement import statement  # noqa: PLC0415 - duckdb only where there is work

    quoted = str(other).replace("'", "''")
    try:
        with duckdb.connect(config={"python_enable_replacements": False}) as probe:
            probe.execute(f"ATTACH '{quoted}' AS other (READ_ONLY)")
            is_current(probe, "other", other)
    except duckdb.Error as error:
        message = f"{other} cannot be read as a ledger: {first_line(error)}"
        raise LedgerError(message) from None
    copy_migrated(other, copy)
    with duckdb.connect(str(copy), config={"threads": 1}) as connection:
        connection.execute(statement("slices", slice_rows=SLICE_ROWS))
        rows = connection.execute(
            "SELECT slice, sum(rows)::BIGINT, min(first_ns), max(last_ns) FROM slices "
            "GROUP BY slice ORDER BY slice"
        ).fetchall()
    # A ledger without spans may know graphs and processes.
    return [_Slice(*map(int, row)) for row in rows] or [_Slice(0, 0, 0, 0)]


def _take(places: Places, copy: Path, one: _Slice, *, last: bool) -> tuple[int, bool]:
    """Merge one slice in one transaction; return turns touched and whether rows changed."""
    from spanflow.ledger.merge import (  # noqa: PLC0415 - duckdb only where there is work
        drop_erased,
        merge,
    )
    from spanflow.ledger.statement import statement  # noqa: PLC0415 - likewise
    from spanflow.ledger.store import open_store  # noqa: PLC0415 - likewise

    # Elected for each slice anew, so that a large ledger does not keep this one's own records out.
    with elected(places, wait_s=_WAITS_S) as won:
        if not won:
            message = f"Another process has been ingesting {places.ledger} for long. Try again."
            raise LedgerError(message)
        with open_store(places, swift()) as connection:
            quoted = str(copy).replace("'", "''")
            connection.execute(f"ATTACH '{quoted}' AS other (READ_ONLY)")
            with transaction(connection):
                connection.execute(
                    statement("joined", slice=one.number, low=one.first_ns, high=one.last_ns)
                )
                drop_erased(connection)
                turns, changed = merge(connection)
                # Last, because a process counts as gone when all it told is here.
                changed = (_take_processes(connection, places) if last else False) or changed
                if changed:
                    connection.execute("UPDATE meta SET revision = revision + 1")
            return turns, changed


def _take_processes(connection: duckdb.DuckDBPyConnection, places: Places) -> bool:
    """Note which processes are gone there, and what they lost; return whether that is news.

    Who was alive there and writes no journal here is a stranger: nobody here will see it die.
    """
    from spanflow.ledger.merge import settle  # noqa: PLC0415 - duckdb only where there is work
    from spanflow.ledger.statement import statement  # noqa: PLC0415 - likewise

    # They count as gone from now on, as far as this ledger's readers are told.
    gone = connection.execute(
        "INSERT INTO processes BY NAME SELECT * REPLACE (?::BIGINT AS gone_at_ns) "
        "FROM other.processes ANTI JOIN processes USING (process_id) RETURNING process_id",
        [time.time_ns()],
    ).fetchall()
    if gone:
        settle(connection, [str(row[0]) for row in gone])
    lost = connection.execute(
        "UPDATE losses SET lost = o.lost FROM other.losses o "
        "WHERE losses.process_id = o.process_id AND losses.lost < o.lost RETURNING 1"
    ).fetchall()
    lost += connection.execute(
        "INSERT INTO losses BY NAME FROM other.losses ANTI JOIN losses USING (process_id) "
        "RETURNING 1"
    ).fetchall()
    ours = [path.stem for path in places.journal.glob(f"*{ALIVE_SUFFIX}")]
    met = connection.execute(
        "INSERT INTO strangers SELECT DISTINCT process_id FROM other.turn_facts "
        "WHERE is_open AND process_id IS NOT NULL AND NOT list_contains($1::VARCHAR[], process_id) "
        "AND process_id NOT IN (SELECT process_id FROM processes) "
        "AND process_id NOT IN (SELECT process_id FROM strangers) RETURNING 1",
        [ours],
    ).fetchall()
    if met:
        connection.execute(statement("met"))
        connection.execute(statement("alone"))
        connection.execute(statement("reached"))
        connection.execute(statement("engagements"))
    return bool(gone or lost or met)
