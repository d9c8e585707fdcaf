"""Where the parts of a ledger lie on disk: names and modes, no contents."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

__all__ = ["PRIVATE_DIRECTORY", "PRIVATE_FILE", "Places", "write_private"]

PRIVATE_DIRECTORY = 0o700
PRIVATE_FILE = 0o600


@dataclass(frozen=True, slots=True)
class Places:
    """The paths of one ledger: the published file and the folder beside it.

    Attributes:
        ledger: The published DuckDB file, what people open.
        directory: The folder of everything private, ``<ledger>.d``.
        journal: Where processes write their segments and ``.alive`` files.
        store: The private DuckDB file that only the elected ingester opens.
        lock: The file whose ``flock`` elects the ingester.
        copy: Where a new published file is prepared before it is renamed.
        published: What was published last (JSON), so that nothing is copied twice.
    """

    ledger: Path
    directory: Path
    journal: Path
    store: Path
    lock: Path
    copy: Path
    published: Path

    @classmethod
    def of(cls, ledger: str | os.PathLike[str]) -> Places:
        """Return the places of `ledger`.

        Symbolic links are followed once, here: two names of one ledger must meet in one folder, and
        a rename must replace the file and not the link.
        """
        path = Path(os.path.realpath(Path(ledger).expanduser()))
        directory = path.with_name(path.name + ".d")
        return cls(
            ledger=path,
            directory=directory,
            journal=directory / "journal",
            store=directory / "store.duckdb",
            lock=directory / "ingest.lock",
            copy=directory / "publishing.duckdb",
            published=directory / "published.json",
        )

    def make(self) -> None:
        """Create the private folders where they are missing.

        Raises:
            OSError: They cannot be created.
        """
        # One by one: `parents=True` would leave the modes of those above to the umask.
        for folder in (*reversed(self.journal.parents), self.journal):
            if not folder.is_dir():
                folder.mkdir(mode=PRIVATE_DIRECTORY, exist_ok=True)


def write_private(path: Path, content: bytes) -> None:
    """Write a small file that nobody else may read, whatever the process's umask.

    Raises:
        OSError: It cannot be written.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    with open(os.open(path, flags, PRIVATE_FILE), "wb") as file:  # noqa: PTH123 - a descriptor
        file.write(content)
