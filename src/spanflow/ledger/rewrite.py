"""The store written anew without what is to be erased, and what lies about it swept.

A deleted row leaves its bytes in a DuckDB file, so nothing is deleted: the rows that stay are
written to another file, which then takes the store's name. A kill at any moment leaves the old
store or the new one. What is to be erased is decided in :mod:`spanflow.ledger.retention`.
"""

from __future__ import annotations

import contextlib
import glob
import os
import shutil
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, cast

import orjson

from spanflow.errors import LedgerError
from spanflow.ledger.chains import join_turns
from spanflow.ledger.damage import first_line, write_ahead_log
from spanflow.ledger.places import Places, write_private
from spanflow.ledger.process import ALIVE_SUFFIX, is_alive
from spanflow.ledger.recount import count_anew
from spanflow.ledger.statement import statement
from spanflow.ledger.store import open_store

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import duckdb

__all__ = ["Gone", "leftovers", "quarantined", "rewrite", "sweep", "told_in"]

_HANDLED = (
    "meta",
    "records",
    "partials",
    "turn_facts",
    "engagement_facts",
    "wait_facts",
    "graph_versions",
    "processes",
    "tombstones",
    "migrations",
)


@dataclass(frozen=True, slots=True)
class Gone:
    """What is to be erased.

    Attributes:
        engagements: Whole engagements.
        turns: Their turns, and turns that name no engagement.
        traces: Traces whose calls outside any engagement go.
        spans: Single calls outside any engagement, as ``trace_id/span_id``.
    """

    engagements: list[str] = field(default_factory=list[str])
    turns: list[str] = field(default_factory=list[str])
    traces: list[str] = field(default_factory=list[str])
    spans: list[str] = field(default_factory=list[str])

    def __bool__(self) -> bool:
        """Return whether there is anything."""
        return bool(self.engagements or self.turns or self.traces or self.spans)

    def tell(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Write it into the temporary tables that the statements read."""
        lists = {
            "engagements": self.engagements,
            "turns": self.turns,
            "traces": self.traces,
            "spans": self.spans,
        }
        for name, ids in lists.items():
            connection.execute(f"CREATE OR REPLACE TEMP TABLE gone_{name} (id VARCHAR)")
            connection.execute(f"INSERT INTO gone_{name} SELECT unnest($1::VARCHAR[])", [ids])


def rewrite(places: Places, gone: Gone) -> int:
    """Write the store anew without what is gone, and give it the old one's name.

    Call it elected, with the store closed.

    Returns:
        The revision of the new store.

    Raises:
        LedgerError: It could not be written; the old store stays as it was.
    """
    import duckdb  # noqa: PLC0415 - a fifth of a second that the span path must never pay

    fresh = places.directory / "rewritten.duckdb"
    _remove(fresh)
    try:
        # What a killed ingester left in the log belongs to the old file, and must not be found
        # beside the new one.
        with open_store(places) as connection:
            connection.execute("FORCE CHECKPOINT")
        # A ledger of its own, beginning blank.
        with open_store(replace(places, ledger=fresh, store=fresh)) as connection:
            revision = _fill(connection, places, gone)
            connection.execute("FORCE CHECKPOINT")
        _require_settled(places.store)
        _require_settled(fresh)
        _sync(fresh)
        fresh.replace(places.store)
        _sync(places.directory)
    except (duckdb.Error, OSError, LedgerError) as error:
        message = (
            f"No row was erased, as the ledger could not be written anew: {first_line(error)} "
            "It needs as much free space as it has bytes."
        )
        raise LedgerError(message) from error
    finally:
        _remove(fresh)
    return revision


def _fill(connection: duckdb.DuckDBPyConnection, places: Places, gone: Gone) -> int:
    quoted = str(places.store).replace("'", "''")
    connection.execute(f"ATTACH '{quoted}' AS old (READ_ONLY)")
    gone.tell(connection)
    living = any(is_alive(path) for path in places.journal.glob(f"*{ALIVE_SUFFIX}"))
    connection.execute(statement("kept", keep_graphs=str(living).lower()))
    tables = connection.execute(
        "SELECT table_name FROM duckdb_tables() "
        "WHERE database_name = 'old' AND NOT list_contains($1, table_name)",
        [list(_HANDLED)],
    ).fetchall()
    for (table,) in tables:
        connection.execute(f"INSERT INTO {table} BY NAME FROM old.{table}")
    _count_neighbours(connection)
    connection.execute(
        "INSERT INTO engagement_facts BY NAME FROM engagement_sums(9223372036854775807, "
        "(SELECT list(DISTINCT engagement_id) FROM turn_facts WHERE engagement_id IS NOT NULL))"
    )
    connection.execute("DETACH old")
    [(revision,)] = connection.execute("SELECT revision FROM meta").fetchall()
    return int(revision)


def _count_neighbours(connection: duckdb.DuckDBPyConnection) -> None:
    """Compute anew what is kept of turns and traces of which something went."""
    [(low, high, turns, traces)] = connection.execute(
        "SELECT coalesce(min(at_ns), 0), coalesce(max(at_ns), 0), "
        "(SELECT count(*) FROM touched_turns), (SELECT count(*) FROM touched_traces) "
        "FROM records"
    ).fetchall()
    if turns or traces:
        count_anew(connection)
        connection.execute(statement("recounted"))
        connection.execute(statement("facts", low=low, high=high))
        join_turns(connection, low, high)


def leftovers(places: Places) -> list[Path]:
    """Return the files that hold copies of rows and are nobody's any more.

    Half-made copies of killed processes, and stores that were moved aside as damaged.
    """
    names = ("rewritten.*", "joining.duckdb*", "publishing.duckdb*", "*.beginning*", "*.corrupt-*")
    found = {path for name in names for path in places.directory.glob(name)}
    beside = glob.escape(places.ledger.name)
    found |= set(places.ledger.parent.glob(f"{beside}.corrupt-*"))
    return sorted(path for path in found if path.is_file())


def quarantined(places: Places) -> list[Path]:
    """Return the segments that nobody could read."""
    return sorted(places.journal.glob("*.bad"))


def sweep(places: Places, is_kept: Callable[[bytes], bool], files: list[Path]) -> list[str]:
    """Remove files, and lines of quarantined segments.

    Args:
        places: Whose ledger.
        is_kept: Whether a line of a quarantined segment stays.
        files: What is removed whole.

    Returns:
        The names of the files that were removed or shortened.

    Raises:
        LedgerError: One of them could not be; what is left is told.
    """
    swept: list[str] = []
    try:
        shutil.rmtree(places.directory / "spill", ignore_errors=True)
        for path in files:
            path.unlink(missing_ok=True)
            swept.append(path.name)
        for path in quarantined(places):
            lines = path.read_bytes().splitlines(keepends=True)
            kept = [line for line in lines if is_kept(line)]
            if len(kept) == len(lines):
                continue
            swept.append(path.name)
            if kept:
                shorter = path.with_suffix(".shorter")
                write_private(shorter, b"".join(kept))
                shorter.replace(path)
            else:
                path.unlink()
        for path in places.journal.glob("*.shorter"):
            path.unlink()
    except OSError as error:
        message = f"{error.filename} could not be removed: {error.strerror}. Remove it yourself."
        raise LedgerError(message) from error
    return swept


def told_in(line: bytes) -> dict[str, object] | None:
    """Return the record a line holds, or None where nobody can read it."""
    try:
        told = orjson.loads(line)
    except ValueError:
        return None
    return cast("dict[str, object]", told) if isinstance(told, dict) else None


def _require_settled(file: Path) -> None:
    """Raise where DuckDB has not brought everything into the file: its log would lie beside it."""
    if write_ahead_log(file).exists():
        message = f"{file} is in use."
        raise LedgerError(message)


def _remove(file: Path) -> None:
    for path in (file, write_ahead_log(file), file.with_suffix(".beginning")):
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
