"""One ingest: which segments are taken, in what order they become rows, and when their files go.

Crash-safe at every point: segments are named in the transaction that holds their rows, and deleted
after it.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from spanflow import guard
from spanflow.ledger.connections import transaction
from spanflow.ledger.damage import StoreSetAsideError, first_line
from spanflow.ledger.election import elected
from spanflow.ledger.journal import BAD_SUFFIX, OPEN_SUFFIX, SEALED_SUFFIX, journals_of
from spanflow.ledger.pace import Pace, swift
from spanflow.ledger.places import Places
from spanflow.ledger.process import ALIVE_SUFFIX, is_alive, told_by

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import timedelta
    from pathlib import Path

    import duckdb

__all__ = ["IngestReport", "ingest"]


@dataclass(frozen=True, slots=True)
class IngestReport:
    """What one ingest did.

    Attributes:
        segments: Segments taken.
        records: Records read from them.
        refused: Lines that were no records.
        turns_touched: Turns whose facts were computed anew.
        quarantined: Segments set aside because nothing could read them.
        changed: Whether any row changed.
    """

    segments: int = 0
    records: int = 0
    refused: int = 0
    turns_touched: int = 0
    quarantined: int = 0
    changed: bool = False


class _Segment(NamedTuple):
    path: Path
    size: int

    @property
    def name(self) -> str:
        return self.path.stem


class _Dead(NamedTuple):
    process_id: str
    path: Path | None


class _Listing(NamedTuple):
    segments: list[_Segment]
    dead: list[_Dead]
    losses: dict[str, int]
    """Records that processes, living or dead, say they could not keep."""


# By ledger: what this process has seen noted of losses, so that an old one opens no store.
_losses_noted: dict[Path, dict[str, int]] = {}


def ingest(
    ledger: Path,
    *,
    wait_s: float = 0.0,
    idle_after: timedelta | None = None,
    pace: Pace | None = None,
) -> IngestReport | None:
    """Turn everything in the journal that is ready into rows of the store.

    Ready are sealed segments, and any segment of a process that is gone. This process's own current
    segments are sealed first.

    Args:
        ledger: The published file; it is not touched.
        wait_s: How long to wait for another ingester to finish.
        idle_after: From now on, silence after which the views call a waiting engagement abandoned.
        pace: How much of the machine it may take; without it, as a person would who waits for it.

    Returns:
        What was done; None if another ingester was at work.

    Raises:
        LedgerError: The store cannot be used; the journal keeps everything.
        OSError: The folder cannot be used.
    """
    places = Places.of(ledger)
    pace = pace or swift()
    for journal in journals_of(ledger):
        journal.seal()
    if not places.journal.is_dir():
        return IngestReport()
    with elected(places, wait_s=wait_s) as won:
        if not won:
            return None
        listing = _list(places)
        if (
            not listing.segments
            and not listing.dead
            and listing.losses == _losses_noted.get(places.ledger, {})
        ):
            return IngestReport()
        try:
            return _bring_in(places, listing, idle_after, pace)
        except StoreSetAsideError as error:
            guard.diagnose("ledger.store_damaged", str(error))
            return _bring_in(places, _list(places), idle_after, pace)


def _bring_in(
    places: Places, listing: _Listing, idle_after: timedelta | None, pace: Pace
) -> IngestReport:
    from spanflow.ledger.store import open_store  # noqa: PLC0415 - duckdb only where there is work

    with open_store(places, pace) as connection:
        changed = idle_after is not None and _note_patience(connection, idle_after)
        changed = _note_losses(connection, listing.losses) or changed
        report = _ingest_all(connection, listing, pace.batch_bytes)
    _losses_noted[places.ledger] = listing.losses
    return replace(report, changed=report.changed or changed)


def _list(places: Places) -> _Listing:
    # Liveness before the listing: who is gone before it has all its segments in it.
    alive_files = list(places.journal.glob(f"*{ALIVE_SUFFIX}"))
    living = {path.stem for path in alive_files if is_alive(path)}
    segments: list[_Segment] = []
    writers: set[str] = set()
    for path in sorted(places.journal.iterdir()):
        if path.suffix not in (OPEN_SUFFIX, SEALED_SUFFIX):
            continue
        writer = _writer_of(path)
        if path.suffix == OPEN_SUFFIX and (
            writer in living or is_alive(_alive_file(places, writer))
        ):
            continue
        writers.add(writer)
        with contextlib.suppress(FileNotFoundError):
            segments.append(_Segment(path, path.stat().st_size))
    dead = [_Dead(path.stem, path) for path in alive_files if path.stem not in living]
    known = {path.stem for path in alive_files}
    # Somebody may have removed an `.alive` file: who has none and is not seen alive now is gone as
    # well.
    dead += [
        _Dead(writer, None)
        for writer in sorted(writers - known)
        if not is_alive(_alive_file(places, writer))
    ]
    return _Listing(segments, dead, _losses(alive_files))


def _losses(alive_files: list[Path]) -> dict[str, int]:
    told = {path.stem: told_by(path).get("lost") for path in alive_files}
    return {writer: lost for writer, lost in told.items() if isinstance(lost, int) and lost > 0}


def _writer_of(segment: Path) -> str:
    """Return the process id in ``<time_ns>-<process_id>-<n>``."""
    return segment.stem.partition("-")[2].rpartition("-")[0]


def _alive_file(places: Places, process_id: str) -> Path:
    return places.journal / f"{process_id}{ALIVE_SUFFIX}"


def _ingest_all(
    connection: duckdb.DuckDBPyConnection, listing: _Listing, batch_bytes: int
) -> IngestReport:
    report = IngestReport()
    done = {row[0] for row in connection.execute("SELECT name FROM segments").fetchall()}
    todo: list[_Segment] = []
    for segment in listing.segments:
        if segment.name in done:
            # An earlier ingest was stopped between its commit and here.
            segment.path.unlink(missing_ok=True)
        else:
            todo.append(segment)
    listed = {segment.name for segment in todo}
    batches = list(_batches(todo, batch_bytes))
    for position, batch in enumerate(batches):
        dead = listing.dead if position == len(batches) - 1 else []
        report = _ingest_batch(connection, batch, report, dead, listed)
    if not batches:
        report = _ingest_batch(connection, [], report, listing.dead, listed)
    for process in listing.dead:
        if process.path is not None:
            process.path.unlink(missing_ok=True)
    return report


def _batches(segments: Sequence[_Segment], most_bytes: int) -> Iterator[list[_Segment]]:
    batch: list[_Segment] = []
    size = 0
    for segment in segments:
        if batch and size + segment.size > most_bytes:
            yield batch
            batch, size = [], 0
        batch.append(segment)
        size += segment.size
    if batch:
        yield batch


def _ingest_batch(
    connection: duckdb.DuckDBPyConnection,
    batch: list[_Segment],
    report: IngestReport,
    dead: list[_Dead],
    listed: set[str],
) -> IngestReport:
    """Ingest one batch; where something in it is unreadable, set that segment aside."""
    import duckdb  # noqa: PLC0415 - there is a connection, so it is loaded

    try:
        return _transaction(connection, batch, report, dead, listed)
    except duckdb.Error as error:
        unreadable = (duckdb.DataError, duckdb.InvalidInputException)
        if not isinstance(error, unreadable) and all(map(_is_readable, batch)):
            raise
        if not batch:
            raise
        if len(batch) > 1:
            for segment in batch:
                last = segment is batch[-1]
                report = _ingest_batch(connection, [segment], report, dead if last else [], listed)
            return report
        reason = first_line(error)
    with contextlib.suppress(FileNotFoundError):  # somebody removed it under us
        batch[0].path.rename(batch[0].path.with_suffix(BAD_SUFFIX))
        guard.diagnose("ledger.segment_unreadable", f"{batch[0].name} was set aside: {reason}")
        connection.execute(
            "UPDATE meta SET quarantined_segments = quarantined_segments + 1, "
            "revision = revision + 1"
        )
        report = replace(report, quarantined=report.quarantined + 1)
    return _transaction(connection, [], report, dead, listed) if dead else report


def _is_readable(segment: _Segment) -> bool:
    try:
        with segment.path.open("rb") as file:
            file.read(1)
    except OSError:
        return False
    return True


def _transaction(
    connection: duckdb.DuckDBPyConnection,
    batch: list[_Segment],
    report: IngestReport,
    dead: list[_Dead],
    listed: set[str],
) -> IngestReport:
    from spanflow.ledger.merge import load, merge  # noqa: PLC0415 - duckdb only where there is work

    records, refused = load(connection, [segment.path for segment in batch]) if batch else (0, 0)
    with transaction(connection):
        turns, changed = merge(connection) if records else (0, False)
        if batch:
            _note_segments(connection, batch, listed)
        changed = _note_dead(connection, dead) or changed or refused > 0
        if changed:
            connection.execute(
                "UPDATE meta SET revision = revision + 1, refused_records = refused_records + ?",
                [refused],
            )
    for segment in batch:
        segment.path.unlink(missing_ok=True)
    return IngestReport(
        segments=report.segments + len(batch),
        records=report.records + records,
        refused=report.refused + refused,
        turns_touched=report.turns_touched + turns,
        quarantined=report.quarantined,
        changed=report.changed or changed,
    )


def _note_segments(
    connection: duckdb.DuckDBPyConnection, batch: list[_Segment], listed: set[str]
) -> None:
    # Rows of files that are gone are no longer needed.
    connection.execute(
        "DELETE FROM segments WHERE NOT list_contains($1::VARCHAR[], name)", [sorted(listed)]
    )
    connection.execute(
        "INSERT INTO segments SELECT unnest($1::VARCHAR[]), make_timestamp($2)",
        [[segment.name for segment in batch], time.time_ns() // 1_000],
    )
    connection.execute(
        "UPDATE meta SET ingested_at = make_timestamp($1)", [time.time_ns() // 1_000]
    )


def _note_dead(connection: duckdb.DuckDBPyConnection, dead: list[_Dead]) -> bool:
    from spanflow.ledger.merge import settle  # noqa: PLC0415 - duckdb only where there is work

    known = (
        {row[0] for row in connection.execute("SELECT process_id FROM processes").fetchall()}
        if dead
        else set[str]()
    )
    fresh = [process for process in dead if process.process_id not in known]
    for process in fresh:
        told = told_by(process.path) if process.path is not None else {}
        connection.execute(
            "INSERT INTO processes "
            "VALUES (?, TRY_CAST(? AS BIGINT), ?, TRY_CAST(? AS BIGINT), ?, ?)",
            [
                process.process_id,
                *(str(told[key]) if told.get(key) is not None else None for key in _TOLD),
                time.time_ns(),
            ],
        )
    if fresh:
        settle(connection, [process.process_id for process in fresh])
    return bool(fresh)


def _note_losses(connection: duckdb.DuckDBPyConnection, losses: dict[str, int]) -> bool:
    known = dict(connection.execute("SELECT process_id, lost FROM losses").fetchall())
    # A process counts upwards, so the greatest number is its last word.
    fresh = {writer: lost for writer, lost in losses.items() if lost > known.get(writer, 0)}
    if not fresh:
        return False
    with transaction(connection):
        connection.execute(
            "DELETE FROM losses WHERE list_contains($1::VARCHAR[], process_id)", [list(fresh)]
        )
        connection.execute(
            "INSERT INTO losses SELECT unnest($1::VARCHAR[]), unnest($2::BIGINT[])",
            [list(fresh), list(fresh.values())],
        )
        connection.execute("UPDATE meta SET revision = revision + 1")
    return True


def _note_patience(connection: duckdb.DuckDBPyConnection, idle_after: timedelta) -> bool:
    changed = connection.execute(
        "UPDATE meta SET idle_after = $1, revision = revision + 1 "
        "WHERE idle_after <> $1 RETURNING 1",
        [idle_after],
    ).fetchall()
    return bool(changed)


_TOLD = ("pid", "host", "started_ns", "service_name")
