"""Writes a ledger's views as Parquet, a folder a view and a day, for whatever comes after one file.

A day's file is written aside and moved into its place, so a reader finds the old one or the new.
Days that the ledger no longer knows are left as they are.
"""

from __future__ import annotations

import shutil
import tempfile
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb

from spanflow.errors import LedgerError
from spanflow.ledger.publish import refresh
from spanflow.query.opening import Opened, in_one_line

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import date

__all__ = ["VIEWS", "Exported", "export_parquet"]

VIEWS: dict[str, str | None] = {
    "engagements": "started_at",
    "turns": "started_at",
    "steps": "started_at",
    "llm_calls": "started_at",
    "tool_calls": "started_at",
    "events": "occurred_at",
    "waits": "asked_at",
    "transitions": "occurred_at",
    "handoffs": "first_at",
    "spans": "started_at",
    "graphs": None,
}
"""The views that are written, and the column whose day they are parted by."""

_PRIVATE_FILE = 0o600


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written of one view.

    Attributes:
        view: Its name, and its folder's.
        rows: How many rows.
        files: How many files, one a day.
    """

    view: str
    rows: int
    files: int


def export_parquet(
    ledger: Path,
    directory: Path,
    *,
    since: date | None = None,
    until: date | None = None,
    progress: Callable[[str], None] = lambda _view: None,
) -> list[Exported]:
    """Write every view below a folder; where the ledger holds nothing, nothing is written.

    Args:
        ledger: The published file; it is brought up to date first.
        directory: The folder, made where it is missing.
        since: The first day (UTC) that is written; None for the ledger's first.
        until: The last day; None for the ledger's last.
        progress: Told the name of each view before it is written.

    Raises:
        LedgerNotFoundError: There is no ledger there.
        LedgerError: The ledger or the folder cannot be used.
    """
    refresh(ledger)
    with closing(Opened(ledger)) as opened:
        connection = opened.connection
        if not connection.execute("SELECT 1 FROM records LIMIT 1").fetchall():
            return []
        try:
            directory.mkdir(parents=True, exist_ok=True)
            aside = Path(tempfile.mkdtemp(prefix=".writing-", dir=directory))
            try:
                written: list[Exported] = []
                for view, column in VIEWS.items():
                    progress(view)
                    source = _source(connection, view, column, since, until)
                    written.append(_write(connection, view, source, aside, directory))
            finally:
                shutil.rmtree(aside, ignore_errors=True)
        except (OSError, duckdb.Error) as error:
            message = f"{directory} cannot be written: {in_one_line(error)}"
            raise LedgerError(message) from None
        return written


def _source(
    connection: duckdb.DuckDBPyConnection,
    view: str,
    column: str | None,
    since: date | None,
    until: date | None,
) -> str:
    described = connection.execute(f"DESCRIBE {view}").fetchall()
    # As text: not every reader of Parquet knows DuckDB's JSON.
    texts = [f"{name}::VARCHAR AS {name}" for name, kind, *_ in described if kind == "JSON"]
    shown = f"* REPLACE ({', '.join(texts)})" if texts else "*"
    if column is None:
        return f"SELECT {shown} FROM {view}"  # noqa: S608 - names of ours
    within = [
        f"{column}::DATE {sign} DATE '{day.isoformat()}'"
        for sign, day in ((">=", since), ("<=", until))
        if day is not None
    ]
    days = f"{column}::DATE AS day"
    # By day, so that one file after the other is written, each whole.
    return (
        f"SELECT {shown}, {days} FROM {view} "  # noqa: S608 - names of ours
        f"WHERE {' AND '.join(within) or 'true'} ORDER BY day, {column}"
    )


def _write(
    connection: duckdb.DuckDBPyConnection, view: str, source: str, aside: Path, directory: Path
) -> Exported:
    fresh = aside / view
    fresh.mkdir()
    parted = VIEWS[view] is not None
    target = fresh if parted else fresh / "data_0.parquet"
    options = "FORMAT parquet, COMPRESSION zstd"
    options += ", PARTITION_BY (day), OVERWRITE_OR_IGNORE" if parted else ""
    quoted = str(target).replace("'", "''")
    [(rows,)] = connection.execute(f"COPY ({source}) TO '{quoted}' ({options})").fetchall()
    days = {file.parent for file in fresh.rglob("*.parquet")}
    for day in sorted(days):
        _move(day, directory / view / day.relative_to(fresh))
    return Exported(view, rows, len(days))


def _move(fresh: Path, place: Path) -> None:
    """Put a day's files into their place, and remove what an earlier writing left beside them."""
    place.mkdir(parents=True, exist_ok=True)
    written = {file.name for file in fresh.iterdir()}
    for file in sorted(fresh.iterdir()):
        target = place / file.name
        # Whoever opened a file to others meant it.
        mode = target.stat().st_mode & 0o777 if target.exists() else _PRIVATE_FILE
        file.chmod(mode)
        file.replace(target)
    for file in place.glob("data_*.parquet"):
        if file.name not in written:
            file.unlink()
