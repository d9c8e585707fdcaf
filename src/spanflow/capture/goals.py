"""Goals that no graph has: told loudly once, with the nearest name, because a typo would make every run abandoned.

It keeps the names of the steps seen in this process and nothing of any run.
"""

from __future__ import annotations

import difflib
import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["note_shape", "unmatched"]

_logger = logging.getLogger("spanflow")
_seen: set[str] = set()
_warned: set[str] = set()
_MOST_NAMES = 10_000


def note_shape(paths: Sequence[str], goals: Iterable[str]) -> None:
    """Remember a graph's steps, and warn once of each goal that no graph seen so far has."""
    if len(_seen) < _MOST_NAMES:
        _seen.update(paths)
        _seen.update(path.rpartition("/")[2] for path in paths)
    for goal, message in unmatched(goals).items():
        if goal not in _warned:
            _warned.add(goal)
            _logger.warning("spanflow: %s", message)


def unmatched(goals: Iterable[str]) -> dict[str, str]:
    """Return a message for each goal that no step seen so far has; nothing before any graph was seen."""
    if not _seen:
        return {}
    found: dict[str, str] = {}
    for goal in goals:
        if goal in _seen:
            continue
        near = difflib.get_close_matches(goal, _seen, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"its steps are {', '.join(sorted(_seen)[:12])}."
        found[goal] = (
            f"SPANFLOW_GOALS names {goal!r}, but no graph seen so far has a step of that name; {hint}"
        )
    return found
