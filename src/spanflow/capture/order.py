"""How steps follow each other where no framework tells: by what had ended when they began.

Steps that run side by side stand in one place; what begins when none of them runs any more follows
all of them. It holds the last two places and no more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from spanflow.capture.causes import Cause

__all__ = ["Order"]

_MOST = 1_000
"""Steps kept of one place."""


class Order:
    """The steps of plain code inside one step, or at the top of a turn."""

    __slots__ = ("_before", "_now", "_running", "_started")

    def __init__(self) -> None:
        self._before: tuple[Cause, ...] = ()
        self._now: list[Cause] = []
        self._running = 0
        self._started: dict[str, int] = {}

    def begin(self) -> tuple[Cause, ...]:
        """Note that a step, or a graph, begins; return what it follows."""
        if self._running == 0 and self._now:
            self._before, self._now = tuple(self._now), []
        self._running += 1
        return self._before

    def stands(self, causes: Iterable[Cause]) -> None:
        """Note which steps stand in the place that is going on: what comes next follows them."""
        room = _MOST - len(self._now)
        self._now += list(causes)[: max(room, 0)]

    def end(self) -> None:
        """Note that what had begun has ended."""
        self._running -= 1

    def count(self, name: str) -> int:
        """Return how many steps of this name have begun here, this one included."""
        self._started[name] = nth = self._started.get(name, 0) + 1
        return nth
