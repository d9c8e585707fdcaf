"""What is erased from a ledger: engagements past their window, a user's, or one by its id.

Erasing is for good: hashes of the erased ids stay, so that a record that comes late brings nothing
back. How it is done is :mod:`spanflow.ledger.rewrite`'s.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from spanflow.errors import LedgerError, LedgerNotFoundError
from spanflow.ledger.election import elected
from spanflow.ledger.gather import ingest
from spanflow.ledger.journal import OPEN_SUFFIX
from spanflow.ledger.places import Places
from spanflow.ledger.publish import publish
from spanflow.ledger.published import last_published
from spanflow.ledger.rewrite import Gone, leftovers, quarantined, rewrite, sweep, told_in
from spanflow.ledger.statement import statement
from spanflow.ledger.store import open_store
from spanflow.settings import parse_duration

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import duckdb

__all__ = ["Erased", "forget", "purge"]

_ELECTION_WAITS_S = 30.0
_SEGMENTS_WAIT_S = 8.0
_POLL_S = 0.25
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Erased:
    """What was erased, or would be.

    Attributes:
        engagements: The ids of the engagements.
        spans: How many spans, those outside any engagement too.
        bytes_before: Size of the ledger's store.
        bytes_after: Its size afterwards; as before where nothing was erased.
        files: Names of files beside the ledger that were removed or lost lines.
        open_segments: How many segments living processes still write and nobody could look at. What
            they hold of erased engagements is dropped when they are ingested; of a user they may
            hold engagements that nobody knows yet.
        dry_run: Whether nothing was done.
    """

    engagements: tuple[str, ...]
    spans: int
    bytes_before: int
    bytes_after: int
    files: tuple[str, ...]
    open_segments: int
    dry_run: bool


class _Aim(NamedTuple):
    """What to look for in the store, in lines that could not be ingested, and in stray files."""

    in_store: Callable[[duckdb.DuckDBPyConnection], Gone]
    names: Callable[[dict[str, object]], bool] | None
    """Whether a quarantined record is itself what is looked for."""
    keeps_unreadable: bool
    is_stray: Callable[[Path], bool] | None
    """Whether a file goes even where no engagement does; without it, every one."""


def purge(
    ledger: Path,
    older_than: timedelta | str,
    now: datetime | None = None,
    *,
    dry_run: bool = False,
) -> Erased:
    """Erase whole engagements that have ended and were last seen longer ago than a window.

    Ended are completed, failed, abandoned and interrupted ones, as the ledger judges them at `now`:
    an engagement whose process died without an end counts from its last sign of life. Active and
    paused ones stay. Calls outside any engagement go by their trace.

    Args:
        ledger: The published file.
        older_than: The window, as a duration or as text like ``90d``.
        now: The instant to judge at; naive means UTC. Without it, the ledger's own now.
        dry_run: Only tell what would be erased.

    Raises:
        LedgerError: The window is wrong, or the ledger cannot be written.
    """
    window = _window(older_than)
    instant = None if now is None else _utc(now)

    def in_store(connection: duckdb.DuckDBPyConnection) -> Gone:
        at = instant or _own_now(connection)
        cutoff_ns = _ns(at) - window // timedelta(microseconds=1) * 1_000
        if cutoff_ns <= 0:
            return Gone()
        literal = f"TIMESTAMP '{at.replace(tzinfo=None).isoformat()}'"
        connection.execute(statement("ended", instant=literal, cutoff=cutoff_ns))
        return _chosen(connection, "engagements", "turns", "traces")

    edge_ns = (time.time_ns() if instant is None else _ns(instant)) - (
        window // timedelta(microseconds=1) * 1_000
    )

    def is_old(path: Path) -> bool:
        return path.stat().st_mtime_ns < edge_ns

    aim = _Aim(in_store, names=None, keeps_unreadable=True, is_stray=is_old)
    return _erase(ledger, aim, dry_run=dry_run, wait_s=0.0)


def forget(
    ledger: Path,
    *,
    user_id: str | None = None,
    engagement_id: str | None = None,
    dry_run: bool = False,
    wait_s: float = _SEGMENTS_WAIT_S,
) -> Erased:
    """Erase one user's engagements, or one engagement, whatever their status.

    A user's are all engagements with any turn of that user, and calls that name the user outside
    engagements, with what else their traces hold outside engagements.

    Args:
        ledger: The published file.
        user_id: Whose; or
        engagement_id: which one, as a whole id.
        dry_run: Only tell what would be erased.
        wait_s: How long to wait for living processes to finish the segments they write.

    Raises:
        LedgerError: Not exactly one of the two is given, the engagement is not there, or the ledger
            cannot be written.
    """
    if (user_id is None) == (engagement_id is None) or "" in (user_id, engagement_id):
        message = "Name either the user or the engagement to forget, and not both."
        raise LedgerError(message)

    def in_store(connection: duckdb.DuckDBPyConnection) -> Gone:
        connection.execute(
            "CREATE OR REPLACE TEMP TABLE wanted AS "
            "SELECT $1::VARCHAR AS user_id, $2::VARCHAR AS engagement_id",
            [user_id, engagement_id],
        )
        connection.execute(statement("named"))
        gone = _chosen(connection, "engagements", "turns", "spans")
        if engagement_id is not None and not gone and not _was_erased(connection, engagement_id):
            message = f"There is no engagement {engagement_id} in {ledger}; nothing was erased."
            raise LedgerError(message)
        return gone

    def names(told: dict[str, object]) -> bool:
        if user_id is not None:
            return told.get("user_id") == user_id
        return told.get("engagement_id") == engagement_id

    aim = _Aim(in_store, names, keeps_unreadable=False, is_stray=None)
    return _erase(ledger, aim, dry_run=dry_run, wait_s=wait_s)


def _erase(ledger: Path, aim: _Aim, *, dry_run: bool, wait_s: float) -> Erased:
    places = Places.of(ledger)
    if not places.ledger.exists() and not places.directory.is_dir():
        message = f"There is no ledger at {places.ledger}."
        raise LedgerNotFoundError(message)
    places.make()
    ingest(ledger, wait_s=_ELECTION_WAITS_S)
    if not dry_run:
        # A user's engagement that nobody knows of yet may lie in what a process is writing now.
        _await_segments(ledger, places, wait_s)
    with elected(places, wait_s=_ELECTION_WAITS_S) as won:
        if not won:
            message = f"Another process is at work on {places.ledger}. Try again; nothing was done."
            raise LedgerError(message)
        report, revision = _erase_elected(places, aim, dry_run=dry_run)
    if dry_run:
        return report
    publish(ledger, force=True, wait_s=_ELECTION_WAITS_S)
    published = last_published(places)
    if published is None or published["revision"] < revision:
        message = (
            f"Everything was erased from the store, and {places.ledger} could not be replaced yet. "
            "Any `spanflow` command does that as soon as it can."
        )
        raise LedgerError(message)
    return replace(report, open_segments=_await_segments(ledger, places, wait_s))


def _erase_elected(places: Places, aim: _Aim, *, dry_run: bool) -> tuple[Erased, int]:
    """Choose and erase; return what was, and the store's revision."""
    with open_store(places) as connection:
        gone = _with_quarantined(places, aim, aim.in_store(connection))
        gone.tell(connection)
        [(spans, revision)] = connection.execute(statement("going")).fetchall()
    before = places.store.stat().st_size
    files = leftovers(places)
    if aim.is_stray is not None:
        files = [path for path in files if gone or aim.is_stray(path)]
        files += [path for path in quarantined(places) if aim.is_stray(path)]
    swept = [path.name for path in files]
    if not dry_run:
        # Before the rows go: whoever is killed in between finds everything again.
        swept = sweep(places, _keeps(aim, gone), files)
        if gone:
            revision = rewrite(places, gone)
    report = Erased(
        engagements=tuple(gone.engagements),
        spans=spans,
        bytes_before=before,
        bytes_after=places.store.stat().st_size,
        files=tuple(swept),
        open_segments=len(_open_segments(places)),
        dry_run=dry_run,
    )
    return report, revision


def _keeps(aim: _Aim, gone: Gone) -> Callable[[bytes], bool]:
    """Return what decides whether a line of a quarantined segment stays."""
    ids = {*gone.engagements, *gone.turns}
    alone = {*gone.traces, *gone.spans}
    texts = [name.encode() for name in ids]

    def keeps(line: bytes) -> bool:
        told = told_in(line)
        if told is None:
            # Nobody can tell whose it is; it was never part of the ledger.
            return aim.keeps_unreadable and not any(text in line for text in texts)
        of = {told.get("engagement_id"), told.get("turn_id")} - {None}
        is_named = aim.names is not None and aim.names(told)
        trace_id = told.get("trace_id")
        called = {trace_id, f"{trace_id}/{told.get('span_id')}"}
        return not (is_named or of & ids or (not of and called & alone))

    return keeps


def _with_quarantined(places: Places, aim: _Aim, gone: Gone) -> Gone:
    """Add the engagements that only lines set aside tell of."""
    if aim.names is None:
        return gone
    known = set(gone.engagements)
    found: set[str] = set()
    for path in quarantined(places):
        for line in path.read_bytes().splitlines():
            told = told_in(line)
            if told is not None and aim.names(told):
                id_ = told.get("engagement_id")
                if isinstance(id_, str) and id_:
                    found.add(id_)
    return replace(gone, engagements=[*gone.engagements, *sorted(found - known)])


def _chosen(connection: duckdb.DuckDBPyConnection, *names: str) -> Gone:
    chosen: dict[str, list[str]] = {}
    for name in names:
        rows = connection.execute(f"FROM gone_{name} ORDER BY ALL").fetchall()
        chosen[name] = [str(row[0]) for row in rows]
    return Gone(**chosen)


def _was_erased(connection: duckdb.DuckDBPyConnection, engagement_id: str) -> bool:
    [(count,)] = connection.execute(
        "SELECT count(*) FROM tombstones WHERE id_hash = sha256((SELECT salt FROM meta) || ?)",
        [engagement_id],
    ).fetchall()
    return bool(count)


def _await_segments(ledger: Path, places: Places, wait_s: float) -> int:
    """Ingest what living processes write now, as they finish it; return how many did not."""
    writing = _open_segments(places)
    deadline = time.monotonic() + wait_s
    while True:
        ingest(ledger, wait_s=_ELECTION_WAITS_S)
        writing &= _open_segments(places)
        if not writing or time.monotonic() > deadline:
            return len(writing)
        time.sleep(_POLL_S)


def _open_segments(places: Places) -> set[str]:
    names: set[str] = set()
    for path in places.journal.glob(f"*{OPEN_SUFFIX}"):
        try:
            if path.stat().st_size:
                names.add(path.name)
        except FileNotFoundError:
            continue
    return names


def _own_now(connection: duckdb.DuckDBPyConnection) -> datetime:
    [(fixed,)] = connection.execute("SELECT as_of FROM meta").fetchall()
    return datetime.now(UTC) if fixed is None else _utc(fixed)


def _window(older_than: timedelta | str) -> timedelta:
    try:
        window = parse_duration(older_than) if isinstance(older_than, str) else older_than
    except ValueError as error:
        message = f"{error}."
        raise LedgerError(message) from None
    if window < timedelta(0):
        message = "The window must not be negative; write it like 90d."
        raise LedgerError(message)
    return window


def _utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _ns(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1) * 1_000
