"""Opens a ledger's published file for reading: checked to be ours, and of this version.

An older file is read through a copy brought up to date. What is asked of it is others' affair; it
never writes to the ledger.
"""

from __future__ import annotations

import shutil
import tempfile
import weakref
from pathlib import Path

import duckdb

from spanflow.errors import LedgerError, LedgerNotFoundError
from spanflow.ledger.migrated import copy_migrated, is_current
from spanflow.ledger.published import identity_of

__all__ = ["Opened", "in_one_line"]

_TRIES = 4


class Opened:
    """A published file attached to an instance of DuckDB of its own, under the name ``ledger``.

    duckdb shares one instance among all that open a path in a process, and would go on showing the
    old file after a newer one was moved into its place.
    """

    def __init__(self, path: Path, *, threads: int | None = None) -> None:
        """Open the file at `path`.

        Args:
            path: The published file.
            threads: How many threads DuckDB may use; None for as many as there are processors.

        Raises:
            LedgerNotFoundError: There is no such file.
            LedgerError: It is no ledger of ours, or newer than this package, or damaged.
        """
        if not path.is_file():
            message = (
                f"There is no ledger at {path}. Make one with "
                f"`SPANFLOW_LEDGER={path} opentelemetry-instrument python app.py` "
                "or `spanflow run app.py`."
            )
            raise LedgerNotFoundError(message)
        # For what DuckDB cannot hold in memory, and for the copy of an older file; of its owner's.
        self._folder = Path(tempfile.mkdtemp(prefix="spanflow-"))
        self._clear = weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        self.connection = duckdb.connect(config=_config(self._folder, threads))
        """The connection; the ledger is its default database."""
        self.is_migrated = False
        """Whether the file is older and a copy of it is read."""
        try:
            self._attach(path)
            if not is_current(self.connection, "ledger", path):
                self.is_migrated = True
                copy = self._folder / "ledger.duckdb"
                copy_migrated(path, copy)
                self.connection.execute("USE memory")
                self.connection.execute("DETACH ledger")
                self._attach(copy)
            self.connection.execute("SELECT engagement_id FROM engagements LIMIT 0")
        except (duckdb.Error, OSError) as error:
            self.close()
            message = f"{path} cannot be read as a ledger: {in_one_line(error)}"
            raise LedgerError(message) from None
        except LedgerError:
            self.close()
            raise

    def _attach(self, file: Path) -> None:
        quoted = str(file).replace("'", "''")
        # DuckDB 2.0 opens a file, reads its header and opens it again: where it was replaced in
        # between, the header is not that of the rest.
        for tries_left in reversed(range(_TRIES)):
            before = identity_of(file)
            try:
                self.connection.execute(f"ATTACH '{quoted}' AS ledger (READ_ONLY)")
            except duckdb.Error:
                if not tries_left or identity_of(file) == before:
                    raise
                continue
            if not tries_left or identity_of(file) == before:
                break
            self.connection.execute("DETACH ledger")
        self.connection.execute("USE ledger")

    def seal(self) -> None:
        """From now on let no statement reach other files, the network or the configuration."""
        self.connection.execute("SET enable_external_access = false")
        self.connection.execute("SET lock_configuration = true")

    def close(self) -> None:
        """Close the file; closing twice does nothing."""
        self.connection.close()
        self._clear()


def in_one_line(error: BaseException) -> str:
    """Return what DuckDB says without the excerpt of the query that it draws below."""
    return " ".join(str(error).partition("\n\nLINE ")[0].split())


def _config(folder: Path, threads: int | None) -> dict[str, str | bool | int | float | list[str]]:
    config: dict[str, str | bool | int | float | list[str]] = {
        "temp_directory": str(folder / "spill"),
        "autoinstall_known_extensions": False,
        # A name in a query is a table's, never that of a variable here.
        "python_enable_replacements": False,
    }
    if threads is not None:
        config["threads"] = threads
        if not duckdb.__version__.startswith("1."):
            # New in 2.0, which otherwise starts eight more threads than those asked for.
            config["async_threads"] = 0
    return config
