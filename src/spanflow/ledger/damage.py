"""What is wrong with a DuckDB file that does not do as asked, and how a damaged one is set aside.

A file is called damaged only when it was looked at in peace and could not be read: one that is
locked, newer, somebody else's or out of reach is not, and a full disk damages nothing. Nothing is
ever deleted here.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import time
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from spanflow.errors import LedgerError
from spanflow.ledger.connections import interruptible

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows
    fcntl = None

if TYPE_CHECKING:
    from pathlib import Path

    import duckdb

__all__ = [
    "FORMAT",
    "Finding",
    "State",
    "StoreSetAsideError",
    "can_be_damage",
    "examine",
    "first_line",
    "is_circumstance",
    "set_aside",
    "write_ahead_log",
]

FORMAT = "spanflow ledger"
"""What the table `meta` of a ledger says of itself."""

_MAGIC = b"DUCK"
_MAGIC_AT = 8
_HEADER_BYTES = 20
# The storage version that our files have, and one that no honest header reaches.
_OUR_VERSION = 67
_NO_VERSION = 1000


class StoreSetAsideError(LedgerError):
    """The store was found damaged in the midst of work and is out of the way: begin again."""


class State(Enum):
    """What a file turned out to be."""

    ABSENT = "absent"
    """There is none, or it is empty."""
    OURS = "ours"
    """A ledger that can be read."""
    DAMAGED = "damaged"
    """A database, or what was one, that cannot be read."""
    FOREIGN = "foreign"
    """A database of somebody else's."""
    NO_DATABASE = "no database"
    NEWER = "newer"
    """Written by a DuckDB newer than the one at hand."""
    LOCKED = "locked"
    """Another program has it open for writing."""
    OUT_OF_REACH = "out of reach"
    """Not ours to open: its mode, its kind, the file system."""


class Finding(NamedTuple):
    """The state of a file and the reason for it, in a few words."""

    state: State
    reason: str = ""


def can_be_damage(error: Exception) -> bool:
    """Return whether a damaged file could make DuckDB raise this, among other causes."""
    import duckdb  # noqa: PLC0415 - there is an error of it, so it is loaded

    kinds = (
        duckdb.FatalException,
        duckdb.InternalException,
        duckdb.IOException,
        duckdb.SerializationException,
    )
    # duckdb 2.0 has no type of its own for a checksum that does not match.
    return isinstance(error, kinds) or type(error) is duckdb.Error


def is_circumstance(error: BaseException | None) -> bool:
    """Return whether an error tells of disks, locks and memory, and not of what we asked for."""
    if error is None or isinstance(error, OSError):
        return error is not None
    duckdb = sys.modules.get("duckdb")
    if duckdb is None:
        return False
    kinds = (
        duckdb.FatalException,
        duckdb.IOException,
        duckdb.OutOfMemoryException,
        duckdb.TransactionException,  # a commit that found no space
    )
    return isinstance(error, kinds)


def examine(file: Path, *, thoroughly: bool = False) -> Finding:
    """Look at a file without changing it.

    Args:
        file: What should be a ledger.
        thoroughly: Read every row, not just the few that tell what it is.

    Raises:
        duckdb.InterruptException: It was told to stop.
        duckdb.OutOfMemoryException: It could not be read for want of memory.
    """
    try:
        with file.open("rb", buffering=0) as opened:
            header = opened.read(_HEADER_BYTES)
            locked = bool(header) and _is_locked(opened.fileno())
    except FileNotFoundError:
        return Finding(State.ABSENT, "it is not there")
    except OSError as error:
        return Finding(State.OUT_OF_REACH, os.strerror(error.errno or errno.EIO))
    if not header:
        return Finding(State.ABSENT, "it is empty")
    if header[_MAGIC_AT : _MAGIC_AT + len(_MAGIC)] != _MAGIC:
        return Finding(State.NO_DATABASE, "it is no DuckDB file")
    if locked:
        return Finding(State.LOCKED, "another program has it open for writing")
    return _read(file, int.from_bytes(header[_MAGIC_AT + len(_MAGIC) :], "little"), thoroughly)


def _read(file: Path, version: int, thoroughly: bool) -> Finding:  # noqa: FBT001 - as it is given
    import duckdb  # noqa: PLC0415 - a fifth of a second that the span path must never pay

    name = str(file).replace("'", "''")
    try:
        with interruptible(duckdb.connect(config={"threads": 1})) as connection:
            connection.execute(f"ATTACH '{name}' AS examined (READ_ONLY)")
            row = connection.execute("SELECT format FROM examined.meta").fetchone()
            if row is None or row[0] != FORMAT:
                return Finding(State.FOREIGN, "its table `meta` is another's")
            if thoroughly:
                _read_every_row(connection)
    except (duckdb.InterruptException, duckdb.OutOfMemoryException):
        raise
    except (duckdb.CatalogException, duckdb.BinderException):
        return Finding(State.FOREIGN, "it has no table `meta` of ours")
    except duckdb.Error as error:
        if _OUR_VERSION < version < _NO_VERSION:
            return Finding(State.NEWER, first_line(error))
        return Finding(State.DAMAGED, first_line(error))
    return Finding(State.OURS)


def _read_every_row(connection: duckdb.DuckDBPyConnection) -> None:
    tables = connection.execute(
        "SELECT table_name FROM duckdb_tables() WHERE database_name = 'examined'"
    ).fetchall()
    for (table,) in tables:
        # The hash of a row needs all its columns, so that every block's checksum is looked at.
        query = f'SELECT bit_xor(hash(t)) FROM examined."{table}" t'  # noqa: S608 - our tables
        connection.execute(query).fetchall()


def _is_locked(descriptor: int) -> bool:
    if fcntl is None:  # pragma: no cover - Windows
        return False
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in {errno.EACCES, errno.EAGAIN}
    return False


def set_aside(file: Path, folder: Path) -> Path:
    """Rename a damaged file, and its write-ahead log, to ``<stem>.corrupt-<UTC time>.duckdb``.

    Args:
        file: The damaged file.
        folder: Where it goes; on the same file system.

    Returns:
        Where it lies now.

    Raises:
        OSError: It could not be renamed.
    """
    moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    target = folder / f"{file.stem}.corrupt-{moment}.duckdb"
    number = 1
    while target.exists():
        number += 1
        target = folder / f"{file.stem}.corrupt-{moment}-{number}.duckdb"
    # First the log: beside the next file of that name it would be in the way.
    with contextlib.suppress(FileNotFoundError):
        write_ahead_log(file).rename(write_ahead_log(target))
    file.rename(target)
    return target


def write_ahead_log(file: Path) -> Path:
    """Return where DuckDB keeps what is not yet in a database file."""
    return file.with_name(f"{file.name}.wal")


def first_line(error: Exception) -> str:
    """Return the first line of what an error says, else its type."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
