"""Asks a ledger's published file what a test wants to know, as any program with DuckDB would.

An instance of DuckDB takes longer to start than most questions to answer, so a process starts one
and opens the file in it anew for each question: nothing is held open, or remembered, in between.
"""

from __future__ import annotations

import itertools
import os
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import duckdb

from spanflow.ledger.published import identity_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_TRIES = 20
_instances: dict[int, duckdb.DuckDBPyConnection] = {}
_one_at_a_time = threading.Lock()
_names = (f"asked_{number}" for number in itertools.count())


def asked(ledger: Path, query: str) -> list[dict[str, Any]]:
    """Return the rows of an answer, each by the names of its columns."""
    names, rows = answer(ledger, query)
    return [dict(zip(names, row, strict=True)) for row in rows]


def answer(ledger: Path, query: str) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Return the names of an answer's columns, and its rows."""
    with _one_at_a_time, _instance().cursor() as connection, _attached(connection, ledger):
        found = connection.execute(query)
        return [column[0] for column in found.description or ()], found.fetchall()


@contextmanager
def connected(ledger: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open a file that may be replaced at any moment, in an instance of its own."""
    with duckdb.connect() as connection, _attached(connection, ledger):
        yield connection


@contextmanager
def _attached(connection: duckdb.DuckDBPyConnection, ledger: Path) -> Iterator[None]:
    name, quoted = next(_names), str(ledger).replace("'", "''")
    # DuckDB 2.0 opens a file, reads its header and opens it again: where it was replaced in
    # between, the header is not that of the rest.
    for tries_left in reversed(range(_TRIES)):
        before = identity_of(ledger)
        try:
            connection.execute(f"ATTACH '{quoted}' AS {name} (READ_ONLY)")
        except duckdb.Error:
            if not tries_left or identity_of(ledger) == before:
                raise
            continue
        if identity_of(ledger) == before:
            break
        connection.execute(f"DETACH {name}")
    connection.execute(f"USE {name}")
    try:
        yield
    finally:
        connection.execute("USE memory")
        connection.execute(f"DETACH {name}")


def _instance() -> duckdb.DuckDBPyConnection:
    # A forked child has none of its parent's threads.
    process = os.getpid()
    if process not in _instances:
        _instances[process] = duckdb.connect()
    return _instances[process]
