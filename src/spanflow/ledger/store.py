"""The private store: how its DuckDB file is opened, made and brought up to date.

Only the elected ingester may open it. This module decides nothing about rows.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

from spanflow import guard
from spanflow.errors import LedgerError
from spanflow.ledger.chains import join_all_turns
from spanflow.ledger.connections import interruptible, transaction
from spanflow.ledger.damage import (
    FORMAT,
    State,
    StoreSetAsideError,
    can_be_damage,
    examine,
    first_line,
    set_aside,
    write_ahead_log,
)
from spanflow.ledger.pace import GENTLE, Pace
from spanflow.ledger.places import PRIVATE_DIRECTORY, PRIVATE_FILE, Places, write_private
from spanflow.ledger.published import last_published, make_way

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable
    from pathlib import Path

    import duckdb

__all__ = ["migrate", "migrations", "open_store", "settled_revision", "unknown"]

# What duckdb 1.4 and later can all read; without it, a newer duckdb writes files that older tools
# cannot open.
_STORAGE_VERSION = "v1.4.0"
# Beyond this a commit also tidies up; otherwise that is done once, when the store is closed.
_CHECKPOINT_THRESHOLD = "1GB"

_VIEWS = "_views.sql"
# Views of earlier versions: their file gets a new number at each change, and so is applied anew.
_RETIRED = frozenset(
    {
        "0002_views.sql",
        "0004_views.sql",
        "0007_views.sql",
        "0008_views.sql",
        "0009_analytics.sql",
    }
)

# By store: size, time and revision when this process closed it, and size and time when it was last
# read from end to end and found sound.
_revisions: dict[Path, tuple[int, int, int]] = {}
_sound: dict[Path, tuple[int, int]] = {}


@contextlib.contextmanager
def open_store(places: Places, pace: Pace = GENTLE) -> Generator[duckdb.DuckDBPyConnection]:
    """Open the store of a ledger for writing, made or migrated where needed.

    A store that turns out to be damaged is set aside, and begun anew with what was published last.

    Args:
        places: Whose store.
        pace: How much of the machine it may take.

    Raises:
        LedgerError: The file is newer than this package, no ledger of ours, or held open by another
            program.
        StoreSetAsideError: It is damaged in a place that was met only now.
    """
    import duckdb  # noqa: PLC0415 - a fifth of a second that the span path must never pay

    if not places.store.exists():
        _begin(places)
    try:
        opened = _connect(places, pace)
    except duckdb.Error as error:
        aside = _set_aside_if_damaged(places)
        if aside is None:
            message = (
                f"The store {places.store} cannot be opened: {first_line(error)}. "
                "It was left as it is; the records wait in the journal."
            )
            raise LedgerError(message) from error
        guard.diagnose("ledger.store_damaged", _told_of_damage(places, aside, error))
        _begin(places)
        opened = _connect(places, pace)
    try:
        with interruptible(opened) as connection:
            migrate(connection, places.store)
            yield connection
            [(revision,)] = connection.execute("SELECT revision FROM meta").fetchall()
    except duckdb.Error as error:
        aside = _set_aside_if_damaged(places) if can_be_damage(error) else None
        if aside is None:
            raise
        raise StoreSetAsideError(_told_of_damage(places, aside, error)) from error
    found = places.store.stat()
    _revisions[places.store] = (found.st_size, found.st_mtime_ns, revision)


def settled_revision(places: Places) -> int:
    """Return the store's revision, opening it only where somebody else wrote it last.

    Opening it also replays what a killed ingester left.

    Raises:
        LedgerError: As :func:`open_store`.
    """
    found = places.store.stat()
    *seen, revision = _revisions.get(places.store, (0, 0, 0))
    if seen != [found.st_size, found.st_mtime_ns] or write_ahead_log(places.store).exists():
        with open_store(places):
            pass
        revision = _revisions[places.store][-1]
    return revision


@cache
def migrations() -> tuple[tuple[str, str], ...]:
    """Return the name and text of every migration, in the order of their names."""
    folder = resources.files("spanflow.ledger").joinpath("schema")
    scripts = [entry for entry in folder.iterdir() if entry.name.endswith(".sql")]
    return tuple(
        (script.name, script.read_text("utf-8"))
        for script in sorted(scripts, key=lambda script: script.name)
    )


def unknown(applied: Iterable[str]) -> list[str]:
    """Return which of a ledger's migrations this package never had: it is newer than we are."""
    return sorted(set(applied) - {name for name, _ in migrations()} - _RETIRED)


def _config(places: Places, pace: Pace) -> dict[str, str | bool | int | float | list[str]]:
    import duckdb  # noqa: PLC0415 - a fifth of a second that the span path must never pay

    config: dict[str, str | bool | int | float | list[str]] = {
        "storage_compatibility_version": _STORAGE_VERSION,
        "threads": pace.threads,
        "memory_limit": f"{pace.memory_bytes}B",
        "checkpoint_threshold": _CHECKPOINT_THRESHOLD,
        "temp_directory": str(places.directory / "spill"),
        "autoinstall_known_extensions": False,
    }
    if not duckdb.__version__.startswith("1."):
        # New in 2.0, which otherwise starts eight more threads than the one that is asked for.
        config["async_threads"] = 0
    return config


def migrate(connection: duckdb.DuckDBPyConnection, file: Path) -> None:
    """Bring an open database up to date.

    Args:
        connection: The database, ours or empty.
        file: Its name in messages.

    Raises:
        LedgerError: It is newer than this package, or somebody else's.
    """
    _refuse_strangers(connection, file)
    connection.execute(
        "CREATE TABLE IF NOT EXISTS migrations "
        "(name VARCHAR NOT NULL, applied_at TIMESTAMP NOT NULL)"
    )
    applied = {row[0] for row in connection.execute("SELECT name FROM migrations").fetchall()}
    newer = unknown(applied)
    if newer:
        message = (
            f"{file} was written by a newer spanflow (it has {newer[0]}). "
            "Upgrade spanflow to use it; nothing was changed."
        )
        raise LedgerError(message)
    for name, script in migrations():
        if name in applied:
            continue
        with transaction(connection):
            connection.execute(script)
            if name.endswith(_VIEWS):
                # What views read of rows that are there is made anew with them.
                join_all_turns(connection)
            connection.execute(
                "INSERT INTO migrations VALUES (?, make_timestamp(?))",
                [name, time.time_ns() // 1_000],
            )


def _refuse_strangers(connection: duckdb.DuckDBPyConnection, file: Path) -> None:
    """Raise LedgerError where the database is neither ours nor empty."""
    import duckdb  # noqa: PLC0415 - there is a connection, so it is loaded

    tables = {
        row[0]
        for row in connection.execute(
            "SELECT table_name FROM duckdb_tables() WHERE NOT internal AND NOT temporary"
        ).fetchall()
    }
    if tables <= {"migrations"}:
        return  # an ingester was killed before the first migration
    formats: list[tuple[object]] = []
    if {"meta", "migrations"} <= tables:
        with contextlib.suppress(duckdb.BinderException):
            formats = connection.execute("SELECT format FROM meta").fetchall()
    if formats != [(FORMAT,)]:
        message = (
            f"{file} is somebody else's database. It was left alone: move it away; "
            "the records wait in the journal."
        )
        raise LedgerError(message)


def _connect(places: Places, pace: Pace) -> duckdb.DuckDBPyConnection:
    import duckdb  # noqa: PLC0415 - a fifth of a second that the span path must never pay

    # What a killed ingester spilled is nobody's any more.
    spill = places.directory / "spill"
    shutil.rmtree(spill, ignore_errors=True)
    with contextlib.suppress(OSError):
        spill.mkdir(mode=PRIVATE_DIRECTORY)
    opened = duckdb.connect(str(places.store), config=_config(places, pace))
    # In a notebook or under `python -c` it would be drawn into the app's own output.
    opened.execute("SET enable_progress_bar = false")
    return opened


def _begin(places: Places) -> None:
    """Begin the store, with the published file's history where there is one.

    Raises:
        LedgerError: Something that is no ledger of ours lies at the ledger's path, or the store
            cannot be made.
    """
    import duckdb  # noqa: PLC0415 - a fifth of a second that the span path must never pay

    beginning = places.store.with_suffix(".beginning")
    beginning.unlink(missing_ok=True)
    if make_way(places, last_published(places), thoroughly=True):
        write_private(beginning, b"")
        shutil.copyfile(places.ledger, beginning)
    else:
        try:
            duckdb.connect(str(beginning), config=_config(places, GENTLE)).close()
        except duckdb.Error as error:
            message = f"The store {places.store} cannot be made: {first_line(error)}"
            raise LedgerError(message) from error
        # It has its mode before it has its name, and before there is anything in it.
        beginning.chmod(PRIVATE_FILE)
    # The log of a store that somebody removed is no use to another.
    write_ahead_log(places.store).unlink(missing_ok=True)
    beginning.replace(places.store)


def _set_aside_if_damaged(places: Places) -> Path | None:
    """Return where the store was moved, or None where it was found sound or cannot be judged."""
    import duckdb  # noqa: PLC0415 - there is an error of it, so it is loaded

    found = places.store.stat()
    looked_at = (found.st_size, found.st_mtime_ns)
    if _sound.get(places.store) == looked_at:
        return None
    try:
        state, _ = examine(places.store, thoroughly=True)
    except duckdb.Error:
        return None
    if state is State.OURS:
        # Whatever failed (a full disk, say), a large store is not read again every few seconds.
        _sound[places.store] = looked_at
    if state not in (State.DAMAGED, State.NO_DATABASE, State.ABSENT):
        return None
    return set_aside(places.store, places.directory)


def _told_of_damage(places: Places, aside: Path, error: Exception) -> str:
    return (
        f"The store {places.store} was damaged ({first_line(error)}) and was moved to {aside}. "
        "The ledger goes on with what was published last; the journal is kept"
    )
