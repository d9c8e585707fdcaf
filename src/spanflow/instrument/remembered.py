"""What an engagement's next turn in this process needs to know of its last one.

A bounded memory of the engagements seen last. What no longer fits is forgotten, and the next turn
then knows only what it is told.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from opentelemetry.trace import SpanContext

    from spanflow.capture.identity import Identity
    from spanflow.capture.runtime import Runtime

__all__ = ["Seen", "note", "note_goals", "seen"]

_MOST_REMEMBERED = 1_024


class Seen(NamedTuple):
    """What is known of an engagement's last turn."""

    name: str = ""
    goals: tuple[str, ...] | None = None
    """As somebody declared them; None where only the settings did."""
    turn: SpanContext | None = None


_lock = threading.RLock()  # the collector may close a block in here
_last: WeakKeyDictionary[Runtime, OrderedDict[str, Seen]] = WeakKeyDictionary()


def seen(runtime: Runtime, engagement_id: str) -> Seen | None:
    """Return what is known of the engagement's last turn, or None where it had none here."""
    with _lock:
        known = _last.get(runtime)
        return known.get(engagement_id) if known is not None else None


def note(runtime: Runtime, engagement_id: str, what: Seen) -> None:
    """Remember an engagement's turn for its next one."""
    with _lock:
        known = _last.setdefault(runtime, OrderedDict())
        known[engagement_id] = what
        known.move_to_end(engagement_id)
        while len(known) > _MOST_REMEMBERED:
            known.popitem(last=False)


def note_goals(runtime: Runtime, who: Identity) -> None:
    """Remember the goals that a turn has learnt since it was noted."""
    known = seen(runtime, who.engagement_id)
    if known is not None:
        note(runtime, who.engagement_id, known._replace(goals=who.goals))
