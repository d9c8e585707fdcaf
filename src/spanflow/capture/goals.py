"""Goals that no graph has: told loudly once, with the nearest name.

A typo in a goal would make every run abandoned, and nobody would know why.
It keeps the names of the steps seen in this process and nothing of any run.
"""

from __future__ import annotations

import difflib
import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["forget", "misspelt", "note_shape"]

_logger = logging.getLogger("spanflow")
_shapes: set[str] = set()
_seen: set[str] = set()
_warned: set[str] = set()
_MOST_NAMES = 10_000


def note_shape(version: str, paths: Sequence[str], goals: Iterable[str]) -> None:
    """Remember a graph's steps, and warn once of each goal that no graph seen so far has."""
    if version not in _shapes and len(_seen) < _MOST_NAMES:
        _shapes.add(version)
        _seen.update(paths)
        _seen.update(path.rpartition("/")[2] for path in paths)
    for goal in goals:
        if goal not in _seen and goal not in _warned:
            _warned.add(goal)
            near = _near(goal)
            hint = (
                f"did you mean {near!r}?"
                if near
                else f"its steps are {', '.join(sorted(_seen)[:12])}."
            )
            _logger.warning(
                "spanflow: SPANFLOW_GOALS names %r, "
                "but no graph seen so far has a step of that name; %s",
                goal,
                hint,
            )


def misspelt(goals: Iterable[str]) -> dict[str, str]:
    """Return the step that was probably meant for each goal that no graph seen so far has.

    A goal that resembles no step may belong to a graph that has not run yet, and is not in the
    answer.
    """
    return {goal: near for goal in goals if goal not in _seen and (near := _near(goal))}


def forget() -> None:
    """Forget every graph seen and every warning given."""
    _shapes.clear()
    _seen.clear()
    _warned.clear()


def _near(goal: str) -> str | None:
    close = difflib.get_close_matches(goal, _seen, n=1)
    return close[0] if close else None
