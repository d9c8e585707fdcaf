"""Which errors have their event already, so that one that comes up through steps counts once.

Errors are told apart by identity. Those of classes made in Python are held weakly; Python's own
cannot be, so that of them only the last few are known, and held until whoever asks has ended.
"""

from __future__ import annotations

from collections import deque
from typing import cast
from weakref import WeakValueDictionary

__all__ = ["Noted"]

_MOST_HELD = 16
"""Each keeps alive what its traceback names."""


class Noted:
    """The errors that came up from inside a step or a turn."""

    __slots__ = ("_held", "_told", "_weak")

    def __init__(self) -> None:
        self._weak: WeakValueDictionary[int, BaseException] = WeakValueDictionary()
        self._held: deque[BaseException] = deque(maxlen=_MOST_HELD)
        self._told: set[tuple[str, str]] = set()

    def add(self, error: BaseException | None, told: tuple[str, str] | None = None) -> None:
        """Remember an error.

        Args:
            error: The error itself, where it is known.
            told: Its class and message, where it may have to be known by them.
        """
        if told is not None:
            self._told.add(told)
        if error is None:
            return
        try:
            self._weak[id(error)] = error
        except TypeError:
            self._held.append(error)

    def has(self, error: BaseException) -> bool:
        """Whether this very error came up, or all those of a group of them."""
        if self._weak.get(id(error)) is error or any(one is error for one in tuple(self._held)):
            return True
        if not isinstance(error, BaseExceptionGroup):
            return False
        group = cast("BaseExceptionGroup[BaseException]", error)
        return all(self.has(one) for one in group.exceptions)

    def has_told(self, told: tuple[str, str]) -> bool:
        """Whether an error of this class and message was told."""
        return told in self._told
