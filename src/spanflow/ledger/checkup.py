"""The state of a ledger as it lies on disk, and what somebody should do about it.

It works on whatever is there, broken or not, and changes nothing: no folder is made, nothing is
ingested, and an ingester that comes meanwhile only has to come again.
"""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import stat
import time
from dataclasses import dataclass, field
from importlib import metadata
from typing import TYPE_CHECKING, Any

from spanflow.ledger.damage import Finding, State, examine
from spanflow.ledger.disk import REMOTE, file_system, holders, locks_work
from spanflow.ledger.journal import BAD_SUFFIX, OPEN_SUFFIX, SEALED_SUFFIX
from spanflow.ledger.places import Places
from spanflow.ledger.process import ALIVE_SUFFIX, is_alive, lock_file, told_by

if TYPE_CHECKING:
    from collections.abc import Collection, Generator
    from datetime import datetime
    from pathlib import Path

__all__ = ["Checkup", "Problem", "check_up"]

WAITING_TOO_LONG_S = 60.0
LITTLE_SPACE_BYTES = 100_000_000


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that needs doing.

    Attributes:
        what: What is wrong.
        do: What to do about it.
    """

    what: str
    do: str


@dataclass(slots=True)
class Checkup:
    """What was found; None is what could not be found out.

    Attributes:
        ledger: The published file's path.
        versions: Of spanflow, DuckDB and Python, and of the schema in the store or the file.
        published: What the published file is (see :class:`~spanflow.ledger.damage.State`).
        published_bytes: Its size.
        published_age_s: How long ago it was written.
        store: What the store is; `busy` while an ingester has it open.
        store_bytes: Its size.
        waiting_segments: Segments that are not ingested yet.
        waiting_bytes: Their size.
        oldest_waiting_s: How long ago the oldest was written to last.
        living: Processes that may write, by number.
        gone: Processes that are gone and not yet noted.
        ingesting_pid: Who is ingesting at this moment.
        ingested_at: When segments were last ingested (UTC).
        losses: Records that processes could not keep, by process.
        lost_records: All of those.
        refused_records: Lines that were no records.
        bad_segments: Segments that nothing could read.
        set_aside: Damaged files that were moved out of the way.
        file_system: Its type.
        free_bytes: The space left on it.
        open_to_others: Files and folders with a mode that lets others in.
        problems: What needs doing.
    """

    ledger: str
    versions: dict[str, str | None] = field(default_factory=dict[str, "str | None"])
    published: str = State.ABSENT.value
    published_bytes: int | None = None
    published_age_s: float | None = None
    store: str = State.ABSENT.value
    store_bytes: int | None = None
    waiting_segments: int = 0
    waiting_bytes: int = 0
    oldest_waiting_s: float | None = None
    living: list[int] = field(default_factory=list[int])
    gone: int = 0
    ingesting_pid: int | None = None
    ingested_at: datetime | None = None
    losses: dict[str, int] = field(default_factory=dict[str, int])
    lost_records: int | None = None
    refused_records: int | None = None
    bad_segments: list[str] = field(default_factory=list[str])
    set_aside: list[str] = field(default_factory=list[str])
    file_system: str | None = None
    free_bytes: int | None = None
    open_to_others: list[str] = field(default_factory=list[str])
    problems: list[Problem] = field(default_factory=list[Problem])

    def complain(self, what: str, do: str) -> None:
        """Add a problem."""
        self.problems.append(Problem(what, do))


def check_up(ledger: Path) -> Checkup:
    """Look at everything that belongs to a ledger.

    Args:
        ledger: The published file, which need not exist.
    """
    places = Places.of(ledger)
    found = Checkup(str(places.ledger))
    found.versions = {
        "spanflow": metadata.version("spanflow"),
        "duckdb": metadata.version("duckdb"),
        "python": platform.python_version(),
        "schema": None,
    }
    if not os.path.lexists(places.ledger) and not os.path.lexists(places.directory):
        found.complain(
            f"There is no ledger at {places.ledger}",
            "Run an agent with SPANFLOW_LEDGER set to that path, or name another with --ledger",
        )
        return found
    for look in (
        _look_at_disk,
        _look_at_published,
        _look_at_store,
        _look_at_journal,
        _look_at_modes,
    ):
        try:
            look(places, found)
        except OSError as error:
            found.complain(
                f"{error.filename or places.directory} cannot be looked at: {error.strerror}",
                "Give this user access to it, or ask as the user who writes the ledger",
            )
    return found


def _look_at_published(places: Places, found: Checkup) -> None:
    finding = _examined(places.ledger)
    found.published = finding.state.value
    if finding.state is State.ABSENT:
        return
    about = places.ledger.stat()
    found.published_bytes, found.published_age_s = about.st_size, _age_s(about)
    if finding.state is State.OURS:
        _read_meta(places.ledger, found)
        return
    with_store = places.store.exists()
    do = {
        State.LOCKED: "Close the program that writes to it; read-only it is in nobody's way",
        State.DAMAGED: "Move it away; the next `spanflow` command writes it anew"
        if with_store
        else "Move it away; what it held can only come from a copy of yours",
        State.OUT_OF_REACH: "Give this user access to it, or give the ledger another path",
    }.get(finding.state, "It was left alone: give the ledger another path, or move the file away")
    found.complain(f"{places.ledger} cannot be used: {finding.reason}", do)


def _look_at_store(places: Places, found: Checkup) -> None:
    if not os.path.lexists(places.store):
        return
    found.store_bytes = places.store.stat().st_size
    with _nobody_ingests(places) as holder:
        if holder is not None:
            found.store, found.ingesting_pid = "busy", holder
            return
        finding = _examined(places.store)
        found.store = finding.state.value
        if finding.state is State.OURS:
            _read_meta(places.store, found)
    if finding.state is State.LOCKED:
        pids = ", ".join(map(str, holders(places.store))) or "unknown"
        found.complain(
            f"Another program has the store open (process {pids})",
            "Close it: the records wait in the journal. Open the published file instead",
        )
    elif finding.state in (State.DAMAGED, State.NO_DATABASE, State.ABSENT):
        found.complain(
            f"The store is damaged: {finding.reason}",
            "Nothing: the next ingest moves it aside and goes on with the published file",
        )
    elif finding.state is not State.OURS:
        found.complain(
            f"{places.store} cannot be used: {finding.reason}",
            "Move it away; the records wait in the journal",
        )


def _look_at_journal(places: Places, found: Checkup) -> None:
    found.set_aside = sorted(str(one) for one in places.directory.glob("*.corrupt-*.duckdb"))
    if found.set_aside:
        found.complain(
            f"{len(found.set_aside)} damaged file(s) were moved aside: {found.set_aside[0]}",
            "Look what damaged them (the disk?); delete them when you need them no more",
        )
    if not places.journal.is_dir():
        return
    living: dict[str, int] = {}
    told: dict[str, int] = {}
    for alive in places.journal.glob(f"*{ALIVE_SUFFIX}"):
        said = told_by(alive)
        told[alive.stem] = _number(said.get("lost"))
        if is_alive(alive):
            living[alive.stem] = _number(said.get("pid"))
        else:
            found.gone += 1
    found.living = sorted(living.values())
    _count_waiting(places, found)
    found.bad_segments = sorted(str(one) for one in places.journal.glob(f"*{BAD_SUFFIX}"))
    if found.bad_segments:
        found.complain(
            f"{len(found.bad_segments)} segment(s) could not be read: {found.bad_segments[0]}",
            "Look what wrote into the journal; delete them when you need them no more",
        )
    _count_lost(found, told, living)


def _count_waiting(places: Places, found: Checkup) -> None:
    for segment in places.journal.iterdir():
        if segment.suffix not in (OPEN_SUFFIX, SEALED_SUFFIX):
            continue
        with contextlib.suppress(FileNotFoundError):  # an ingester has just taken it
            about = segment.stat()
            found.waiting_segments += 1
            found.waiting_bytes += about.st_size
            found.oldest_waiting_s = max(found.oldest_waiting_s or 0.0, _age_s(about))
    if (found.oldest_waiting_s or 0.0) > WAITING_TOO_LONG_S and found.store != "busy":
        found.complain(
            f"{found.waiting_segments} segment(s) wait since {found.oldest_waiting_s:.0f} s",
            "Run `spanflow ingest`; if they stay, the line above this says why"
            if found.problems
            else "Run `spanflow ingest`, or any command that reads the ledger",
        )


def _count_lost(found: Checkup, told: dict[str, int], living: Collection[str]) -> None:
    for process, lost in told.items():
        if lost > found.losses.get(process, 0):
            found.losses[process] = lost
    found.lost_records = sum(found.losses.values())
    losing = sum(found.losses.get(process, 0) for process in living)
    if losing:
        found.complain(
            f"Processes that are running could not keep {losing} record(s)",
            "Make room and give them access to the folder; the count starts anew with them",
        )


def _look_at_disk(places: Places, found: Checkup) -> None:
    there = next(one for one in (places.directory, *places.directory.parents) if one.exists())
    found.file_system = file_system(there)
    found.free_bytes = shutil.disk_usage(there).free
    size = places.store.stat().st_size if places.store.is_file() else 0
    if found.free_bytes < max(LITTLE_SPACE_BYTES, 2 * size):
        found.complain(
            f"Only {found.free_bytes:,} bytes are free",
            "Make room: publishing needs space for a copy, and what cannot be written is lost",
        )
    if found.file_system in REMOTE:
        found.complain(
            f"The ledger lies on a network file system ({found.file_system})",
            "Move it to a local disk, one ledger a host; `spanflow ingest OTHER.duckdb` joins them",
        )
    if not locks_work(there):
        found.complain(
            "The file system has no file locks",
            "Move the ledger to a local disk: processes could not tell who is at work",
        )
    if not os.access(there, os.W_OK | os.X_OK):
        found.complain(
            f"{there} may not be written to",
            "Give this user access to it, or ask as the user who writes the ledger",
        )


def _look_at_modes(places: Places, found: Checkup) -> None:
    if not places.directory.is_dir():
        return
    for one in (places.directory, *places.directory.rglob("*")):
        with contextlib.suppress(FileNotFoundError):
            if stat.S_IMODE(one.lstat().st_mode) & 0o077:
                found.open_to_others.append(str(one))
    # Behind a closed door only the door counts: DuckDB gives its own files the mode it likes.
    if str(places.directory) in found.open_to_others:
        found.complain(
            f"Others may look into {places.directory}",
            f"chmod -R go= '{places.directory}'",
        )


def _examined(file: Path) -> Finding:
    import duckdb  # noqa: PLC0415 - only who is asked pays for it

    try:
        return examine(file, thoroughly=True)
    except duckdb.Error as error:
        return Finding(State.OUT_OF_REACH, str(error))


def _read_meta(file: Path, found: Checkup) -> None:
    from spanflow.ledger.store import migrations  # noqa: PLC0415 - only who is asked pays for it

    for row in _asked(file, "FROM it.meta"):
        found.refused_records = row.get("refused_records")
        found.ingested_at = row.get("ingested_at")
    for row in _asked(file, "SELECT max(name) AS name FROM it.migrations"):
        found.versions["schema"] = row["name"]
    found.losses = {
        row["process_id"]: row["lost"] for row in _asked(file, "SELECT * FROM it.losses")
    }
    found.lost_records = sum(found.losses.values())
    known = migrations()[-1][0]
    if (found.versions["schema"] or "") > known:
        found.complain(
            f"{file} was written by a newer spanflow (it has {found.versions['schema']})",
            "Upgrade spanflow here; until then the records wait in the journal",
        )


def _asked(file: Path, query: str) -> list[dict[str, Any]]:
    """Return the rows of a query about a ledger, or none where it is too old to know."""
    import duckdb  # noqa: PLC0415 - only who is asked pays for it

    name = str(file).replace("'", "''")
    try:
        with duckdb.connect(config={"threads": 1}) as connection:
            connection.execute(f"ATTACH '{name}' AS it (READ_ONLY)")
            cursor = connection.execute(query)
            names = [column[0] for column in cursor.description or ()]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    except duckdb.Error:
        return []


@contextlib.contextmanager
def _nobody_ingests(places: Places) -> Generator[int | None]:
    """Keep ingesters out meanwhile; yields the process number of one that is at work, else None."""
    try:
        descriptor = os.open(places.lock, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        yield None
        return
    try:
        if lock_file(descriptor):
            yield None
        else:
            told = os.pread(descriptor, 20, 0).strip()
            yield int(told) if told.isdigit() else 0
    finally:
        os.close(descriptor)


def _age_s(about: os.stat_result) -> float:
    return max(0.0, time.time() - about.st_mtime)


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0
