"""The audit log: digests of ended engagements, each line chained to the one before by its hash.

It only ever grows, lies outside the ledger's folder, and holds ids and hashes, no metadata. Whoever
keeps its last hash elsewhere can tell later that nothing was cut off its end either. What a digest
is, is :mod:`spanflow.ledger.digest`'s.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

from spanflow.errors import LedgerError
from spanflow.ledger.digest import CURRENT, FORMS, Digest, compare
from spanflow.ledger.places import PRIVATE_FILE, Places
from spanflow.ledger.process import lock_file
from spanflow.ledger.recount import prepare, recounted

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator
    from pathlib import Path

    import duckdb

    Progress: TypeAlias = Callable[[int, int], None]

__all__ = ["Audited", "Checked", "Standing", "audit", "check", "default_log", "head_of"]

Standing: TypeAlias = Literal["same", "extended", "altered", "missing", "erased"]

_BEGINNING = "0" * 64
_POLL_S = 0.05
_LOCK_WAITS_S = 30.0
_BLOCK_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Audited:
    """What one audit wrote.

    Attributes:
        written: How many lines.
        extended: Engagements to which something was added since their last line.
        altered: Engagements that are no longer what their last line says, or do not add up.
        engagements: How many the log knows now.
        head: The hash of the last line: what can be kept elsewhere.
        mended: Whether a torn last line, left by a crash, was taken off.
    """

    written: int
    extended: tuple[str, ...]
    altered: tuple[str, ...]
    engagements: int
    head: str
    mended: bool


@dataclass(frozen=True, slots=True)
class Checked:
    """What a check of the log and of every engagement in it found.

    Attributes:
        lines: How many lines were read.
        head: The hash of the last one.
        broken: What is wrong with the log itself, a sentence each; empty where it is whole.
        torn: Whether it ends in half a line, as a crash leaves it.
        engagements: How each engagement in it stands.
        unlogged: How many ended engagements it does not know yet.
    """

    lines: int
    head: str
    broken: tuple[str, ...]
    torn: bool
    engagements: dict[str, Standing]
    unlogged: int

    @property
    def is_clean(self) -> bool:
        """Whether the log is whole and nothing was altered or is missing."""
        return not self.broken and not {"altered", "missing"} & set(self.engagements.values())


class _Line(NamedTuple):
    seq: int
    at: str
    engagement_id: str
    status: str
    change: str
    digest: str
    prev: str


@dataclass(slots=True)
class _Chain:
    """A log as it was read."""

    hashes: list[str] = field(default_factory=list[str])
    last: dict[str, _Line] = field(default_factory=dict[str, _Line])
    altered: set[str] = field(default_factory=set[str])
    broken: list[str] = field(default_factory=list[str])
    whole_bytes: int = 0
    torn: bool = False

    @property
    def head(self) -> str:
        return self.hashes[-1] if self.hashes else _BEGINNING


def default_log(ledger: Path) -> Path:
    """Return where the audit log of a ledger lies unless it is told otherwise."""
    file = Places.of(ledger).ledger
    return file.with_name(f"{file.name}.audit.ndjson")


def audit(
    connection: duckdb.DuckDBPyConnection, log: Path, on_progress: Progress | None = None
) -> Audited:
    """Write down the digests of ended engagements that are new or changed since their last line.

    Args:
        connection: To which a ledger of this version is attached as `ledger`; of no other use
            afterwards.
        log: The log; made where there is none.
        on_progress: Told how many engagements of how many are done.

    Raises:
        LedgerError: The log is broken or cannot be written, or another audit is at work.
    """
    statuses = _ended(connection)
    told = on_progress or _to_nobody
    with _opened(log, os.O_RDWR | os.O_CREAT | os.O_APPEND, shared=False) as descriptor:
        chain = _read(descriptor)
        if chain.broken:
            message = (
                f"The audit log {log} is broken: {chain.broken[0]} Nothing was added; keep it, and "
                "begin another with --log."
            )
            raise LedgerError(message)
        if chain.torn:
            os.ftruncate(descriptor, chain.whole_bytes)
        changes: dict[str, str] = {id_: "new" for id_ in statuses if id_ not in chain.last}
        known = [chain.last[id_] for id_ in statuses if id_ in chain.last]
        total = len(statuses) + len(changes)
        prepare(connection)
        done = 0
        for line, verdict in _verdicts(connection, known):
            if verdict in ("extended", "altered"):
                changes[line.engagement_id] = verdict
            done += 1
            told(done, total)
        writer = _Writer(descriptor, chain)
        for facts in recounted(connection, list(changes), FORMS[CURRENT]):
            id_, done = facts.engagement_id, done + 1
            change = changes[id_] if facts.sound else "altered"
            digest = str(Digest.of(CURRENT, id_, facts.entries))
            writer.add(id_, statuses[id_], change, digest)
            told(min(done, total), total)
        writer.finish()
    return Audited(
        written=writer.written,
        extended=tuple(writer.added["extended"]),
        altered=tuple(writer.added["altered"]),
        engagements=len(chain.last),
        head=chain.head,
        mended=chain.torn,
    )


def check(
    connection: duckdb.DuckDBPyConnection,
    log: Path,
    head: str | None = None,
    on_progress: Progress | None = None,
) -> Checked:
    """Check every line of the log, and every engagement in it against its last line.

    An engagement of which an alteration was once written down stays altered.

    Args:
        connection: To which a ledger of this version is attached as `ledger`; of no other use
            afterwards.
        log: The log.
        head: A hash that was kept elsewhere; the log must have it.
        on_progress: Told how many engagements of how many are done.

    Raises:
        LedgerError: There is no log, or it cannot be read.
    """
    told = on_progress or _to_nobody
    ended = _ended(connection)
    with _opened(log, os.O_RDONLY, shared=True) as descriptor:
        chain = _read(descriptor)
    if head is not None and head.strip().lower() not in chain.hashes:
        chain.broken.append(
            f"No line has the hash {head.strip()}: the log's end was cut off or written anew."
        )
    prepare(connection)
    standing: dict[str, Standing] = {}
    for line, verdict in _verdicts(connection, list(chain.last.values())):
        is_known_altered = line.engagement_id in chain.altered and verdict not in (
            "missing",
            "erased",
        )
        standing[line.engagement_id] = "altered" if is_known_altered else verdict
        told(len(standing), len(chain.last))
    return Checked(
        lines=len(chain.hashes),
        head=chain.head,
        broken=tuple(chain.broken),
        torn=chain.torn,
        engagements={id_: standing[id_] for id_ in chain.last},
        unlogged=len(ended.keys() - chain.last.keys()),
    )


def head_of(log: Path) -> str:
    """Return the hash of the last line of a log, all of whose lines were checked.

    Raises:
        LedgerError: There is no log, or it is broken.
    """
    with _opened(log, os.O_RDONLY, shared=True) as descriptor:
        chain = _read(descriptor)
    if chain.broken:
        message = f"The audit log {log} is broken: {chain.broken[0]}"
        raise LedgerError(message)
    return chain.head


def _to_nobody(done: int, total: int) -> None:
    """Tell nobody how far the work is."""


def _ended(connection: duckdb.DuckDBPyConnection) -> dict[str, str]:
    """Return the status of every engagement that has ended, the oldest first."""
    rows = connection.execute(
        "SELECT engagement_id, status FROM engagements "
        "WHERE status NOT IN ('active', 'paused') ORDER BY started_at, engagement_id"
    ).fetchall()
    return {str(id_): str(status) for id_, status in rows}


def _verdicts(
    connection: duckdb.DuckDBPyConnection, lines: Iterable[_Line]
) -> Iterator[tuple[_Line, Standing]]:
    """Yield how the engagements of some lines stand, each in the form of its own digest."""
    rows = connection.execute(
        "SELECT id_hash, (SELECT salt FROM ledger.meta) FROM ledger.tombstones"
    ).fetchall()
    salt = str(rows[0][1]) if rows else ""
    erased = {str(row[0]) for row in rows}
    by_version: defaultdict[int, dict[str, tuple[_Line, Digest]]] = defaultdict(dict)
    for line in lines:
        digest = Digest.read(line.digest)
        by_version[digest.version][line.engagement_id] = (line, digest)
    for version, held in by_version.items():
        for facts in recounted(connection, list(held), FORMS[version]):
            line, digest = held[facts.engagement_id]
            if facts.entries:
                yield line, compare(digest, facts.entries, sound=facts.sound)
            else:
                id_hash = hashlib.sha256((salt + facts.engagement_id).encode()).hexdigest()
                yield line, "erased" if id_hash in erased else "missing"


class _Writer:
    """Adds lines to the end of a chain."""

    def __init__(self, descriptor: int, chain: _Chain) -> None:
        self._descriptor = descriptor
        self._chain = chain
        self._waiting: list[bytes] = []
        self._size = 0
        self.written = 0
        self.added: defaultdict[str, list[str]] = defaultdict(list)

    def add(self, engagement_id: str, status: str, change: str, digest: str) -> None:
        chain = self._chain
        last = chain.last.get(engagement_id)
        self.added[change].append(engagement_id)
        if last is not None and (last.change, last.digest) == (change, digest):
            # What does not add up stays so; once is enough.
            return
        line = _Line(
            seq=len(chain.hashes) + 1,
            at=datetime.now(UTC).isoformat(timespec="microseconds"),
            engagement_id=engagement_id,
            status=status,
            change=change,
            digest=digest,
            prev=chain.head,
        )
        text, own_hash = _text_of(line)
        chain.hashes.append(own_hash)
        chain.last[engagement_id] = line
        self._waiting.append(text)
        self._size += len(text)
        self.written += 1
        if self._size >= _BLOCK_BYTES:
            self._write()

    def finish(self) -> None:
        self._write()
        os.fsync(self._descriptor)

    def _write(self) -> None:
        block = b"".join(self._waiting)
        self._waiting.clear()
        self._size = 0
        while block:
            block = block[os.write(self._descriptor, block) :]


def _text_of(line: _Line) -> tuple[bytes, str]:
    """Return a line as it stands in the log, and its hash."""
    told = json.dumps(line._asdict(), separators=(",", ":"))
    own_hash = hashlib.sha256(told.encode("ascii")).hexdigest()
    return f'{told[:-1]},"hash":"{own_hash}"}}\n'.encode("ascii"), own_hash


def _read(descriptor: int) -> _Chain:
    chain = _Chain()
    with open(os.dup(descriptor), "rb") as file:  # noqa: PTH123 - a descriptor, which is locked
        file.seek(0)
        for text in file:
            if not text.endswith(b"\n"):
                chain.torn = True
                return chain
            chain.whole_bytes += len(text)
            _take(chain, text)
    return chain


def _take(chain: _Chain, text: bytes) -> None:
    """Add a line to the chain, or what is wrong with it."""
    position = len(chain.hashes) + 1
    line = _line_of(text)
    if line is None:
        chain.broken.append(f"Line {position} was edited.")
        chain.hashes.append("")
        return
    if line.seq != position:
        chain.broken.append(f"Line {position} says that it is line {line.seq}.")
    elif line.prev != chain.head and chain.head:
        chain.broken.append(f"Line {position} does not follow the line before it.")
    _, own_hash = _text_of(line)
    chain.hashes.append(own_hash)
    chain.last[line.engagement_id] = line
    if line.change == "altered":
        chain.altered.add(line.engagement_id)


def _line_of(text: bytes) -> _Line | None:
    """Read one line, or None where a single byte of it is not as it was written."""
    try:
        told: Any = json.loads(text)
        values: list[Any] = [told[name] for name in _Line._fields]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    if [type(value) for value in values] != [int, *[str] * (len(values) - 1)]:
        return None
    line = _Line(*values)
    return line if _text_of(line)[0] == text else None


@contextlib.contextmanager
def _opened(log: Path, flags: int, *, shared: bool) -> Generator[int]:
    """Open a log and hold its lock: one audit writes, or several read."""
    try:
        descriptor = os.open(log, flags | os.O_CLOEXEC, PRIVATE_FILE)
    except FileNotFoundError:
        message = f"There is no audit log at {log}. `spanflow audit` begins one."
        raise LedgerError(message) from None
    except OSError as error:
        message = f"The audit log {log} cannot be opened: {os.strerror(error.errno or 0)}."
        raise LedgerError(message) from error
    try:
        deadline = time.monotonic() + _LOCK_WAITS_S
        while not lock_file(descriptor, shared=shared):
            if time.monotonic() > deadline:
                message = f"Another audit is at work on {log}. Try again when it is done."
                raise LedgerError(message)
            time.sleep(_POLL_S)
        yield descriptor
    except OSError as error:
        message = f"The audit log {log} cannot be written: {error.strerror or error}."
        raise LedgerError(message) from error
    finally:
        os.close(descriptor)
