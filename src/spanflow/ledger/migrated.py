"""Files of other versions: which are ledgers of ours, which are too new, and copies of old ones.

An older file is read through a copy that the store's own migrations brought up to date; the file
itself is never written.
"""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from spanflow.errors import LedgerError
from spanflow.ledger.damage import first_line
from spanflow.ledger.places import PRIVATE_FILE
from spanflow.ledger.store import FORMAT, migrate, migrations, unknown

if TYPE_CHECKING:
    from pathlib import Path

    import duckdb

__all__ = ["copy_migrated", "is_current"]


def is_current(connection: duckdb.DuckDBPyConnection, catalog: str, file: Path) -> bool:
    """Return whether an attached ledger has every migration that this package knows.

    Args:
        connection: What it is attached to.
        catalog: Under which name.
        file: Told to the reader of an error.

    Raises:
        LedgerError: It is no ledger of ours, or newer than this package.
    """
    import duckdb  # noqa: PLC0415 - there is a connection, so it is loaded

    try:
        (row,) = connection.execute(f"SELECT format FROM {catalog}.meta").fetchall()  # noqa: S608 - ours
        found = connection.execute(f"SELECT name FROM {catalog}.migrations").fetchall()  # noqa: S608
    except (duckdb.CatalogException, duckdb.BinderException, ValueError):  # no such tables
        row, found = (None,), []
    if row[0] != FORMAT:
        message = f"{file} is a DuckDB file and no spanflow ledger. Name another file."
        raise LedgerError(message)
    known = {name for name, _ in migrations()}
    applied = {str(name) for (name,) in found}
    if newer := unknown(applied):
        message = (
            f"{file} was written by a newer spanflow (it has {newer[0]}). "
            "Upgrade spanflow to read it; nothing was changed."
        )
        raise LedgerError(message)
    return known <= applied


def copy_migrated(file: Path, target: Path) -> None:
    """Copy a ledger's published file to `target` and bring the copy to this package's version.

    Args:
        file: A file for which :func:`is_current` did not raise.
        target: Where nothing is yet; it is for its owner only.

    Raises:
        LedgerError: The copy cannot be brought up to date.
        OSError: It cannot be made.
    """
    import duckdb  # noqa: PLC0415 - only where a copy is needed

    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE_FILE)
    with os.fdopen(descriptor, "wb") as writer, file.open("rb") as reader:
        shutil.copyfileobj(reader, writer, 4 * 1024 * 1024)
    try:
        with duckdb.connect(str(target), config={"autoinstall_known_extensions": False}) as copy:
            migrate(copy, file)
    except duckdb.Error as error:
        message = (
            f"{file} is of an older version and cannot be brought to this one: {first_line(error)}"
        )
        raise LedgerError(message) from error
