"""The connections to DuckDB that this process works with, so that they can be told to stop.

A thread that is still inside DuckDB when the interpreter goes down would abort the process. What is
asked over a connection is decided elsewhere.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator

    import duckdb

__all__ = ["interrupt", "interruptible", "transaction"]

_open: list[duckdb.DuckDBPyConnection] = []


@contextlib.contextmanager
def interruptible(
    connection: duckdb.DuckDBPyConnection,
) -> Generator[duckdb.DuckDBPyConnection]:
    """Let :func:`interrupt` reach a connection while the block runs; close it afterwards."""
    _open.append(connection)
    try:
        yield connection
    finally:
        _open.remove(connection)
        connection.close()


def interrupt() -> None:
    """Make whatever this process does in a store fail at once; the next ingest does it again."""
    for connection in tuple(_open):
        connection.interrupt()


@contextlib.contextmanager
def transaction(connection: duckdb.DuckDBPyConnection) -> Generator[None]:
    """Commit what the block does, or nothing of it."""
    connection.execute("BEGIN")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(Exception):
            connection.execute("ROLLBACK")
        raise
