"""The thread that ties turns together, carried in the framework's own checkpoints.

Engagement id and last turn are one short scalar, which travels in the run's ``configurable``; it is
read back through the checkpointer, following parents where a head lacks it. A bounded cache saves
the read on the same worker. What a checkpointer is, its caller knows: here it is anything with
``get_tuple``/``aget_tuple``.
"""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from opentelemetry.trace import SpanContext, TraceFlags

from spanflow import semconv

if TYPE_CHECKING:
    from collections.abc import Generator

__all__ = ["Lineage", "decode", "encode", "recall", "remember", "search"]

_MOST_PARENTS = 25
"""Parents followed from a head that lacks our scalar (updates of the state and forks drop it)."""
_MOST_THREADS = 1_024
_LONGEST_ID = 128
_SEPARATOR = "|"

_lock = threading.Lock()
_cache: weakref.WeakKeyDictionary[Any, OrderedDict[str, Lineage]] = weakref.WeakKeyDictionary()


@dataclass(frozen=True, slots=True)
class Lineage:
    """What a thread's checkpoints know of us."""

    engagement_id: str
    previous: SpanContext | None


def encode(engagement_id: str, trace_id: str, span_id: str) -> str:
    """Return the scalar that travels: engagement id, and trace and span id of the writing turn."""
    return _SEPARATOR.join((engagement_id, trace_id, span_id))


def decode(scalar: object) -> Lineage | None:
    """Read the scalar back; None for whatever is not ours."""
    if not isinstance(scalar, str):
        return None
    parts = scalar.rsplit(_SEPARATOR, 2)
    if len(parts) != 3 or not parts[0] or len(parts[0]) > _LONGEST_ID:  # noqa: PLR2004 - id, trace, span
        return None
    try:
        trace_id, span_id = int(parts[1], 16), int(parts[2], 16)
    except ValueError:
        return Lineage(parts[0], None)
    previous = SpanContext(
        trace_id, span_id, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED)
    )
    return Lineage(parts[0], previous if previous.is_valid else None)


def search(config: Any) -> Generator[Any, Any, Lineage | None]:
    """Find the lineage of the thread `config` names.

    This is a generator that asks its caller for each read: it yields the config to read and is sent
    the checkpoint tuple (or None) that the checkpointer gave for it, so that one body serves
    synchronous and asynchronous checkpointers.
    """
    for _ in range(_MOST_PARENTS):
        found = yield config
        if found is None:
            return None
        metadata = getattr(found, "metadata", None)
        lineage = decode(metadata.get(semconv.LINEAGE_KEY)) if isinstance(metadata, dict) else None  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
        if lineage is not None:
            return lineage
        config = getattr(found, "parent_config", None)
        if config is None:
            return None
    return None


def remember(saver: Any, thread: str, lineage: Lineage) -> None:
    """Keep a thread's lineage, so that its next turn on this worker reads nothing."""
    with _lock:
        try:
            threads = _cache.setdefault(saver, OrderedDict())
        except TypeError:  # a saver that cannot be referred to weakly: read each time
            return
        threads[thread] = lineage
        threads.move_to_end(thread)
        while len(threads) > _MOST_THREADS:
            threads.popitem(last=False)


def recall(saver: Any, thread: str) -> Lineage | None:
    """Return what :func:`remember` kept of a thread, if it is still there."""
    with _lock:
        try:
            return _cache.get(saver, OrderedDict()).get(thread)
        except TypeError:
            return None
