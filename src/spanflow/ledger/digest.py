"""Digests of engagements: what all their facts were, in little more than a hash a span.

Here are the canonical form of a row, the text of a digest, and what two states of one engagement
say of each other. Which rows an engagement has is :mod:`spanflow.ledger.recount`'s. A form, once
released, is never changed: digests made with it are kept elsewhere for years.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import re
from collections import defaultdict
from dataclasses import dataclass
from functools import lru_cache
from json.encoder import encode_basestring_ascii as quoted
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self, TypeAlias, cast
from urllib.parse import quote, unquote

from spanflow.errors import LedgerError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

__all__ = ["CURRENT", "FORMS", "Digest", "Entry", "Form", "Verdict", "compare"]

Verdict: TypeAlias = Literal["same", "extended", "altered"]

ENDED, BEGUN, GONE, GRAPH = range(4)
"""What an entry is of: a span that ended, that only began, whose process is gone; a graph."""

_PREFIX = "spanflow-digest-"
_KEY_BYTES = 8
_LEAF_BYTES = 16


class Entry(NamedTuple):
    """One fact of an engagement: a span or a graph, hashed."""

    key: bytes
    state: int
    leaf: bytes
    begun: bytes = b""
    """Of spans: the hash of what a span that began keeps when it ends."""


@dataclass(frozen=True, slots=True)
class Form:
    """How one version of digests writes a row.

    Attributes:
        leaf: From the names of columns and a row's values to the hash of all that it says; nulls
            say nothing, so a column added later changes no digest.
        begun: The same of what stays when a span ends.
    """

    leaf: Callable[[Sequence[str], Sequence[object]], bytes]
    begun: Callable[[Sequence[str], Sequence[object]], bytes]


@dataclass(frozen=True, slots=True)
class Digest:
    """All facts of one engagement at one moment, as hashes."""

    version: int
    engagement_id: str
    entries: tuple[Entry, ...]

    @classmethod
    def of(cls, version: int, engagement_id: str, entries: Iterable[Entry]) -> Self:
        """Return the digest of an engagement's entries, given in any order."""
        kept = (
            entry if entry.state in (BEGUN, GONE) else entry._replace(begun=b"")
            for entry in entries
        )
        return cls(version, engagement_id, tuple(sorted(kept)))

    def __str__(self) -> str:
        """Return the digest as one line of plain text without spaces."""
        packed = b"".join(
            bytes([entry.state]) + entry.key + entry.leaf + entry.begun for entry in self.entries
        )
        named = quote(self.engagement_id, safe="")
        body = base64.urlsafe_b64encode(packed).decode("ascii")
        head = f"{_PREFIX}{self.version}:{named}:{len(self.entries)}"
        return f"{head}:{_root(head, body)}:{body}"

    @classmethod
    def read(cls, text: str) -> Self:
        """Read the text of a digest.

        Raises:
            LedgerError: It is no digest, or one of a newer spanflow.
        """
        known = re.fullmatch(
            rf"({_PREFIX}(\d{{1,9}}):([^:\s]+):(\d{{1,18}})):([0-9a-f]{{64}}):([\w=-]*)",
            text.strip(),
            re.ASCII,
        )
        if known is None:
            message = (
                f"{text[:60]!r} is no whole digest; `Ledger.digest(engagement_id)` makes one, "
                f"and it begins with {_PREFIX}{CURRENT}:."
            )
            raise LedgerError(message)
        head, version, named, count, root, body = known.groups()
        if int(version) not in FORMS:
            message = f"The digest is of version {version}: upgrade spanflow to verify it."
            raise LedgerError(message)
        entries = _unpacked(body)
        if _root(head, body) != root or entries is None or len(entries) != int(count):
            message = (
                f"The digest of {unquote(named)} is damaged: it is not what was once made. "
                "Give it as it was stored."
            )
            raise LedgerError(message)
        return cls(int(version), unquote(named), entries)


def compare(then: Digest, now: Sequence[Entry], *, sound: bool) -> Verdict:
    """Return what became of an engagement.

    A span that only began may end, its process may be found gone, and spans and graphs may be
    added; everything else is an alteration.

    Args:
        then: Its digest.
        now: Its entries today, in the digest's form.
        sound: Whether what is computed from its rows is what it should be.
    """
    left: defaultdict[bytes, list[Entry]] = defaultdict(list)
    for entry in now:
        left[entry.key].append(entry)
    grown = False
    for entry in then.entries:
        found = left[entry.key]
        successor = next((one for one in found if _is_same(entry, one)), None)
        if successor is None:
            successor = next((one for one in found if _follows(entry, one)), None)
            grown = True
        if successor is None:
            return "altered"
        found.remove(successor)
    known = {entry.key for entry in then.entries}
    if not sound or any(left[key] for key in known):
        # What is left of a known span is a second row of it.
        return "altered"
    return "extended" if grown or any(left.values()) else "same"


def _is_same(then: Entry, now: Entry) -> bool:
    return (then.state, then.leaf) == (now.state, now.leaf)


def _follows(then: Entry, now: Entry) -> bool:
    if then.state == BEGUN and now.state == GONE:
        return then.leaf == now.leaf
    return then.state in (BEGUN, GONE) and now.state == ENDED and then.begun == now.begun


def _root(head: str, body: str) -> str:
    return hashlib.sha256(f"{head}:{body}".encode()).hexdigest()


def _unpacked(body: str) -> tuple[Entry, ...] | None:
    try:
        packed = base64.b64decode(body, altchars=b"-_", validate=True)
    except ValueError:
        return None
    entries: list[Entry] = []
    position = 0
    while position < len(packed):
        state = packed[position]
        ends = list(
            itertools.accumulate(
                (1, _KEY_BYTES, _LEAF_BYTES, _LEAF_BYTES if state in (BEGUN, GONE) else 0),
                initial=position,
            )
        )
        key, leaf, begun = (packed[low:high] for low, high in itertools.pairwise(ends[1:]))
        entries.append(Entry(key, state, leaf, begun))
        position = ends[-1]
    return tuple(entries) if position == len(packed) else None


# --- the first form --------------------------------------------------------------------------

_JSON_1 = frozenset(
    {
        "attributes",
        "edges",
        "events",
        "goals",
        "links",
        "metadata",
        "nodes",
        "tools_available",
        "usage_flags",
    }
)
_BEGUN_1 = frozenset(
    {
        "engagement_id",
        "kind",
        "name",
        "parent_span_id",
        "parent_step_id",
        "path",
        "span_id",
        "started_ns",
        "step_id",
        "trace_id",
        "turn_id",
    }
)
_DEEPEST = 200


def key_of(*names: object) -> bytes:
    """Return what an entry is found by: the hash of the names of a span or a graph."""
    return hashlib.sha256("/".join(map(str, names)).encode()).digest()[:_KEY_BYTES]


def _leaf_1(names: Sequence[str], values: Sequence[object]) -> bytes:
    told = {name: value for name, value in zip(names, values, strict=True) if value is not None}
    if told.get("source") == "otlp":
        # Who brought a file in; bringing it again changes nothing.
        told.pop("process_id", None)
    return _hash_1(list(told.items()))


def _begun_1(names: Sequence[str], values: Sequence[object]) -> bytes:
    told = [
        (name, value)
        for name, value in zip(names, values, strict=True)
        if name in _BEGUN_1 and value is not None
    ]
    return _hash_1(told)


def _hash_1(told: list[tuple[str, object]]) -> bytes:
    told.sort()
    fields = ",".join(
        f'"{name}":{_json_1(str(value)) if name in _JSON_1 else _scalar_1(value)}'
        for name, value in told
    )
    return hashlib.sha256(f"{{{fields}}}".encode()).digest()[:_LEAF_BYTES]


def _scalar_1(value: object) -> str:
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    # Shortest digits that read back as the same float; integers are exact.
    return repr(value)


@lru_cache(maxsize=4096)
def _json_1(text: str) -> str:
    """Return a JSON text with its keys sorted and its numbers as they are told."""
    if _is_too_deep(text):
        return "!" + quoted(text)
    try:
        return _written_1(_decoder.decode(text))
    except ValueError:
        return "!" + quoted(text)


class _Number(str):
    """A number's own digits: as a float, two different ones might become one."""

    __slots__ = ()


class _Object(list[tuple[str, object]]):
    """An object's pairs: a dict would hide that a key comes twice."""

    __slots__ = ()


def _real(text: str) -> _Number:
    """Return a number with a point or exponent, so that one value has one text."""
    mantissa, _, exponent = text.lower().partition("e")
    sign = "-" if mantissa.startswith("-") else ""
    whole, _, fraction = mantissa.lstrip("-").partition(".")
    digits = (whole + fraction).lstrip("0")
    power = int(exponent or 0) - len(fraction)
    significant = digits.rstrip("0")
    power += len(digits) - len(significant)
    return _Number(f"{sign}{significant}e{power}" if significant else f"{sign}0e0")


def _no_number(text: str) -> object:
    raise ValueError(text)


_decoder = json.JSONDecoder(
    object_pairs_hook=_Object, parse_int=_Number, parse_float=_real, parse_constant=_no_number
)


def _written_1(value: Any) -> str:
    if isinstance(value, _Number):
        return str(value)
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, _Object):
        pairs = sorted(value, key=itemgetter(0))
        return "{" + ",".join(f"{quoted(key)}:{_written_1(item)}" for key, item in pairs) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_written_1, cast("list[object]", value))) + "]"
    return {None: "null", True: "true", False: "false"}[value]


def _is_too_deep(text: str) -> bool:
    """Whether brackets nest deeper than is parsed; said of the text, not of our stack."""
    if text.count("[") + text.count("{") <= _DEEPEST:
        return False
    depth = 0
    for sign in re.findall(r'"(?:[^"\\]|\\.)*"|[\[\]{}]', text):
        if sign in "[{":
            depth += 1
            if depth > _DEEPEST:
                return True
        elif sign in "]}":
            depth -= 1
    return False


FORMS: dict[int, Form] = {1: Form(leaf=_leaf_1, begun=_begun_1)}
"""Every form there ever was: a digest is verified in the form it was made in."""

CURRENT = 1
