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

from spanflow.errors import LedgerError
from spanflow.ledger.places import PRIVATE_FILE, Places

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    import duckdb

__all__ = ["interrupt", "migrations", "open_store"]

FORMAT = "spanflow ledger"
# What duckdb 1.4 and later can all read; without it, a newer duckdb writes files that older tools
# cannot open.
_STORAGE_VERSION = "v1.4.0"
_MEMORY_LIMIT = "256MB"

_open: list[duckdb.DuckDBPyConnection] = []


@contextlib.contextmanager
def open_store(places: Places) -> Generator[duckdb.DuckDBPyConnection]:
    """Open the store of a ledger for writing, made or migrated where needed.

    Args:
        places: Whose store.

    Raises:
        LedgerError: The file is newer than this package, or no ledger of ours, or damaged.
    """
    import duckdb  # noqa: PLC0415 - a fifth of a second that the span path must never pay

    if not places.store.exists():
        _continue_published(places)
    try:
        connection = duckdb.connect(str(places.store), config=_config(places))
    except duckdb.Error as error:
        message = f"The store {places.store} cannot be opened: {_first_line(error)}"
        raise LedgerError(message) from error
    _open.append(connection)
    try:
        _migrate(connection, places.store)
        yield connection
    finally:
        _open.remove(connection)
        connection.close()
    with contextlib.suppress(OSError):
        places.store.chmod(PRIVATE_FILE)


def interrupt() -> None:
    """Make whatever this process is doing in a store fail at once; it is done again by the next.

    A thread that is still inside DuckDB when the interpreter goes down would abort the process.
    """
    for connection in tuple(_open):
        connection.interrupt()


@cache
def migrations() -> tuple[tuple[str, str], ...]:
    """Return the name and text of every migration, in the order of their names."""
    folder = resources.files("spanflow.ledger").joinpath("schema")
    scripts = [entry for entry in folder.iterdir() if entry.name.endswith(".sql")]
    return tuple(
        (script.name, script.read_text("utf-8"))
        for script in sorted(scripts, key=lambda script: script.name)
    )


def _config(places: Places) -> dict[str, str | bool | int | float | list[str]]:
    import duckdb  # noqa: PLC0415 - a fifth of a second that the span path must never pay

    config: dict[str, str | bool | int | float | list[str]] = {
        "storage_compatibility_version": _STORAGE_VERSION,
        "threads": 1,
        "memory_limit": _MEMORY_LIMIT,
        "temp_directory": str(places.directory / "spill"),
        "autoinstall_known_extensions": False,
    }
    if not duckdb.__version__.startswith("1."):
        # New in 2.0, which otherwise starts eight more threads than the one that is asked for.
        config["async_threads"] = 0
    return config


def _migrate(connection: duckdb.DuckDBPyConnection, file: Path) -> None:
    connection.execute(
        "CREATE TABLE IF NOT EXISTS migrations "
        "(name VARCHAR NOT NULL, applied_at TIMESTAMP NOT NULL)"
    )
    applied = {row[0] for row in connection.execute("SELECT name FROM migrations").fetchall()}
    unknown = sorted(applied - {name for name, _ in migrations()})
    if unknown:
        message = (
            f"{file} was written by a newer spanflow (it has {unknown[0]}). "
            "Upgrade spanflow to use it; nothing was changed."
        )
        raise LedgerError(message)
    for name, script in migrations():
        if name in applied:
            continue
        connection.execute("BEGIN")
        try:
            connection.execute(script)
            connection.execute(
                "INSERT INTO migrations VALUES (?, make_timestamp(?))",
                [name, time.time_ns() // 1_000],
            )
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise


def _continue_published(places: Places) -> None:
    """Begin the store as a copy of the published file where that came here alone.

    A published ledger that was moved keeps its history; a file that is no ledger of ours is never
    replaced.

    Raises:
        LedgerError: Something that is no ledger of ours lies at the ledger's path.
    """
    import duckdb  # noqa: PLC0415 - a fifth of a second that the span path must never pay

    if not places.ledger.exists() or places.ledger.stat().st_size == 0:
        return
    name = str(places.ledger).replace("'", "''")
    try:
        with duckdb.connect() as probe:
            probe.execute(f"ATTACH '{name}' AS published (READ_ONLY)")
            row = probe.execute("SELECT format FROM published.meta").fetchone()
    except duckdb.Error as error:
        row = None
        reason = _first_line(error)
    else:
        reason = "its table `meta` is another's"
    if row is None or row[0] != FORMAT:
        message = (
            f"{places.ledger} is there and is no spanflow ledger ({reason}). "
            "It was left alone: give the ledger another path."
        )
        raise LedgerError(message)
    beginning = places.store.with_suffix(".beginning")
    shutil.copyfile(places.ledger, beginning)
    beginning.replace(places.store)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
