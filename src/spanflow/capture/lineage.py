"""The thread that ties turns together, carried in the framework's own checkpoints.

Engagement id, last turn and a mark of the thread are one short scalar, which travels in the run's
``configurable``; it is read back through the checkpointer, following parents where a head lacks it.
A bounded cache saves the read on the same worker, until somebody says that a thread was changed.
This module never reads a checkpoint itself, and keeps no more than the newest of anything.
"""

from __future__ import annotations

import re
import threading
import weakref
from collections import OrderedDict
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, cast

from opentelemetry.trace import SpanContext, TraceFlags

from spanflow import semconv

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

__all__ = [
    "Lineage",
    "Origin",
    "Read",
    "claim",
    "context_of",
    "decode",
    "encode",
    "forget",
    "mark_of",
    "note_step",
    "recall",
    "remember",
    "search",
    "settle",
    "step_of",
]

_MOST_PARENTS = 25
"""Parents followed from a head that lacks our scalar (updates of the state and forks drop it)."""
_MOST_THREADS = 1_024
_MOST_STEPS = 4_096
_LONGEST_ID = 128
_SEPARATOR = "|"
_SCALAR = re.compile(r"(.+)\|([0-9a-f]{32})\|([0-9a-f]{16})\|([0-9a-f]{8})", re.DOTALL)
_UPDATES = ("update", "fork")
"""What a checkpoint's ``source`` says where no run wrote it."""

# Reentrant: the collector may close an abandoned run, which settles its thread, in here.
_lock = threading.RLock()
_cache: weakref.WeakKeyDictionary[Any, OrderedDict[tuple[str, str], Lineage]] = (
    weakref.WeakKeyDictionary()
)
_steps: OrderedDict[tuple[str, int], tuple[str, str]] = OrderedDict()


@dataclass(frozen=True, slots=True)
class Origin:
    """The checkpoint a fork began at: whose it is, and after which superstep it was written."""

    turn: SpanContext | None = None
    superstep: int | None = None


@dataclass(frozen=True, slots=True)
class Lineage:
    """What is known of a thread before its next turn."""

    engagement_id: str
    previous: SpanContext | None
    thread: str | None = None
    """The mark of the thread this was written on; None where it does not say."""
    outcome: str | None = None
    """How the last turn ended; None where that is unknown, or it goes on."""
    origin: Origin | None = None
    """Where the next turn leaves the thread's line, if it is a fork."""


@dataclass(frozen=True, slots=True)
class Read:
    """What :func:`search` asks for: a config's checkpoint, or the newest one before another."""

    config: Any
    before: Any = None


def mark_of(thread: str) -> str:
    """Return eight hex digits that tell a thread from another it may have been copied to."""
    return blake2b(thread.encode("utf-8", "replace"), digest_size=4).hexdigest()


def encode(engagement_id: str, trace_id: str, span_id: str, thread: str) -> str:
    """Return the scalar that travels: engagement id, ids of the turn, mark of the thread."""
    return _SEPARATOR.join((engagement_id, trace_id, span_id, mark_of(thread)))


def decode(scalar: object) -> Lineage | None:
    """Read the scalar back, also the older one without a mark; None for whatever is not ours."""
    if not isinstance(scalar, str):
        return None
    whole = _SCALAR.fullmatch(scalar)
    parts = list(whole.groups()) if whole else [*scalar.rsplit(_SEPARATOR, 2), None]
    if len(parts) != 4 or not parts[0] or len(parts[0]) > _LONGEST_ID:  # noqa: PLR2004 - id, trace, span, mark
        return None
    engagement_id, trace_id, span_id, thread = cast("list[str]", parts)
    return Lineage(engagement_id, context_of(trace_id, span_id), thread)


def context_of(trace_id: str, span_id: str) -> SpanContext | None:
    """Return the context of an earlier turn's span from its ids in hex; None if they are none."""
    try:
        context = SpanContext(
            int(trace_id, 16),
            int(span_id, 16),
            is_remote=True,
            trace_flags=TraceFlags(TraceFlags.SAMPLED),
        )
    except ValueError:
        return None
    return context if context.is_valid else None


def search(
    thread: str, where: Mapping[str, Any], checkpoint_id: str | None = None
) -> Generator[Read, Any, Lineage | None]:
    """Find the lineage of a thread, and whether a run that starts now leaves its line.

    This is a generator that asks its caller for each read: it yields what to read and is sent the
    checkpoint tuple that the checkpointer gave for it (or None), so that one body serves
    synchronous and asynchronous checkpointers. The thread's head is all it reads, unless the head
    lacks our scalar or the run begins elsewhere.

    Args:
        thread: The thread's id.
        where: Thread and namespace as a ``configurable`` names them.
        checkpoint_id: The checkpoint that the run is told to begin at.
    """
    config = {"configurable": dict(where)}
    head = yield Read(config)
    if checkpoint_id is not None and _id_of(head) != checkpoint_id:
        begin = yield Read({"configurable": {**where, "checkpoint_id": checkpoint_id}})
        if begin is not None:
            return (yield from _forked(begin, head))
    found = yield from _continued(config, head)
    if found is not None and found.origin is None and found.thread not in (None, mark_of(thread)):
        return replace(found, origin=Origin(found.previous, _superstep_of(head)))
    return found


def _forked(begin: Any, newest: Any) -> Generator[Read, Any, Lineage | None]:
    """Return the lineage of a run that begins at `begin` though `newest` was written later."""
    origin, superstep = yield from _nearest(begin)
    last, _ = yield from _nearest(newest)
    known = origin or last
    if known is None:
        return None
    return Lineage(
        known.engagement_id,
        (last or known).previous,
        known.thread,
        origin=Origin(origin.previous, superstep) if origin is not None else Origin(),
    )


def _continued(config: Any, head: Any) -> Generator[Read, Any, Lineage | None]:
    """Return the lineage of a run that begins at the head.

    A head that no run wrote is an update of the state: where that was made on an older checkpoint
    than the newest before it, the run leaves the thread's line there.
    """
    found = head
    for _ in range(_MOST_PARENTS):
        lineage = _said(found)
        if lineage is not None:
            return replace(lineage, outcome=_outcome_of(head))
        parent = getattr(found, "parent_config", None)
        if parent is None or _source_of(found) not in _UPDATES:
            break
        newest = yield Read(config, before=getattr(found, "config", None))
        if newest is None:  # a checkpointer that cannot list
            break
        if _id_of(newest) != _id_in(parent):
            begin = yield Read(parent)
            return (yield from _forked(begin, newest))
        found = newest
    nearest, _ = yield from _nearest(found)
    return nearest


def _nearest(found: Any) -> Generator[Read, Any, tuple[Lineage | None, int | None]]:
    """Return the nearest lineage that a checkpoint or those before it tell, and its superstep."""
    for left in range(_MOST_PARENTS, -1, -1):
        lineage = _said(found)
        if lineage is not None:
            return lineage, _superstep_of(found)
        parent = getattr(found, "parent_config", None)
        if parent is None or not left:
            break
        found = yield Read(parent)
    return None, None


def _said(found: Any) -> Lineage | None:
    """Return what a checkpoint says of us; an update's scalar is that of whoever called it."""
    if _source_of(found) == "update":
        return None
    return decode(_metadata_of(found).get(semconv.LINEAGE_KEY))


def _metadata_of(found: Any) -> Mapping[str, Any]:
    metadata: Any = getattr(found, "metadata", None)
    return cast("dict[str, Any]", metadata) if isinstance(metadata, dict) else {}


def _source_of(found: Any) -> Any:
    return _metadata_of(found).get("source")


def _superstep_of(found: Any) -> int | None:
    step = _metadata_of(found).get("step")
    return step if isinstance(step, int) else None


def _id_of(found: Any) -> Any:
    checkpoint: Any = getattr(found, "checkpoint", None)
    return cast("dict[str, Any]", checkpoint).get("id") if isinstance(checkpoint, dict) else None


def _id_in(config: Any) -> Any:
    return config.get("configurable", {}).get("checkpoint_id")


def _outcome_of(head: Any) -> str | None:
    """Return how the last turn ended as far as the head tells by what is written beside it."""
    channels = {write[1] for write in getattr(head, "pending_writes", None) or ()}
    # A task that failed, then was run again and asks, keeps its error: it waits all the same.
    if "__interrupt__" in channels:
        return "paused"
    return "failed" if "__error__" in channels else None


def remember(saver: Any, thread: str, namespace: str, lineage: Lineage) -> None:
    """Keep a thread's lineage, so that its next turn on this worker reads nothing."""
    with _lock:
        threads = _threads_of(saver)
        if threads is None:
            return
        threads[thread, namespace] = lineage
        threads.move_to_end((thread, namespace))
        while len(threads) > _MOST_THREADS:
            threads.popitem(last=False)


def recall(saver: Any, thread: str, namespace: str) -> Lineage | None:
    """Return what :func:`remember` kept of a thread, if it is still there."""
    with _lock:
        threads = _threads_of(saver)
        return threads.get((thread, namespace)) if threads is not None else None


def claim(saver: Any, thread: str, namespace: str, lineage: Lineage) -> Lineage | None:
    """Remember the lineage of a new thread, unless a turn that began meanwhile did.

    Returns:
        What that other turn said of the thread; None where `lineage` is now the thread's.
    """
    with _lock:
        known = recall(saver, thread, namespace)
        if known is None:
            remember(saver, thread, namespace, lineage)
        return known


def settle(saver: Any, thread: str, namespace: str, span_id: str, outcome: str) -> None:
    """Note how a turn ended, where it is still the last one remembered of its thread.

    Args:
        saver: The thread's checkpointer.
        thread: The thread's id.
        namespace: The run's checkpoint namespace.
        span_id: The turn.
        outcome: Its outcome.
    """
    with _lock:
        known = recall(saver, thread, namespace)
        if known is not None and known.previous is not None:
            if f"{known.previous.span_id:016x}" != span_id:
                return
            remember(saver, thread, namespace, replace(known, outcome=outcome))


def forget(thread: str | None = None) -> None:
    """Forget a thread, or all: somebody deleted it, copied over it or edited its state.

    In every checkpointer of this process: two objects may stand for one store.
    """
    with _lock:
        for threads in list(_cache.values()):
            if thread is None:
                threads.clear()
                continue
            for key in [key for key in threads if key[0] == thread]:
                del threads[key]


def _threads_of(saver: Any) -> OrderedDict[tuple[str, str], Lineage] | None:
    try:
        return _cache.setdefault(saver, OrderedDict())
    except TypeError:  # a saver that cannot be referred to weakly: read each time
        return None


def note_step(turn_id: str, superstep: int | None, trace_id: str, span_id: str) -> None:
    """Remember which step ended last in a superstep of a turn: it wrote the checkpoint after it."""
    if superstep is None:
        return
    with _lock:
        _steps[turn_id, superstep] = (trace_id, span_id)
        _steps.move_to_end((turn_id, superstep))
        while len(_steps) > _MOST_STEPS:
            _steps.popitem(last=False)


def step_of(origin: Origin) -> SpanContext | None:
    """Return the step that wrote the checkpoint a fork began at, if this process still knows it."""
    if origin.turn is None or origin.superstep is None:
        return None
    ids = _steps.get((f"{origin.turn.span_id:016x}", origin.superstep))
    return context_of(*ids) if ids is not None else None
