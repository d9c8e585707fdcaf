"""Which steps of one graph started which: who wrote what the next ones waited for.

What a framework writes and waits for has names here, called channels, and nothing else is known of
it. Held for the superstep that is going on; only a channel that waits for more is held longer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from collections.abc import Set as AbstractSet

    from opentelemetry.trace import SpanContext

    from spanflow.capture.step import Step

__all__ = ["Cause", "Causes", "Written"]

Cause = tuple[str, "SpanContext | None", str]
"""A step that caused another: its id, its span's context and its path.

Of one that ended in an earlier turn, whose span nobody here knows: its execution's id, and None.
"""
Written = dict[str, dict[str, Cause]]
"""By channel the steps that wrote to it, by their ids."""

_MOST = 1_000
"""Causes kept of one step."""


class Causes:
    """The steps of one frame that are going on, and what those before them wrote."""

    __slots__ = ("_begun", "_due", "_fired", "_sent", "_superstep", "_waiting")

    def __init__(self) -> None:
        self._superstep: int | None = None
        self._begun: dict[str, Cause] = {}
        self._waiting: Written = {}
        self._fired: Written = {}
        self._sent: Sequence[tuple[Cause, ...]] = ()
        self._due: dict[str, tuple[Cause, ...]] = {}

    def of(self, key: str, channels: Sequence[str], sent: int | None = None) -> tuple[Cause, ...]:
        """Return what caused a step.

        Args:
            key: The step's.
            channels: Each of those that can start it.
            sent: Which of the packets that were sent it takes up, if it is for one of these.
        """
        if sent is not None:
            return self._sent[sent] if sent < len(self._sent) else ()
        if self._due and key in self._due:
            return self._due.pop(key)
        fired = self._fired
        if not fired:
            return ()
        found = [fired[channel] for channel in channels if channel in fired]
        if len(found) == 1:
            return tuple(found[0].values())[:_MOST]
        return tuple({step_id: cause for one in found for step_id, cause in one.items()}.values())[
            :_MOST
        ]

    def begin(self, step: Step) -> None:
        """Remember a step that begins, for as long as its superstep lasts."""
        if step.superstep != self._superstep:
            self._superstep = step.superstep
            self._begun = {}
        self._begun[step.key] = (step.span_id, step.span.get_span_context(), step.path)

    def begun(self, key: str) -> Cause | None:
        """Return the step of this key, if it began in the superstep that is going on."""
        return self._begun.get(key)

    def last(self) -> tuple[Cause, ...]:
        """Return the steps of the superstep that is going on, or was the last."""
        return tuple(self._begun.values())

    def is_waiting(self, channel: str, path: str) -> bool:
        """Tell whether a step of this path wrote to a channel that has waited since."""
        waiting = self._waiting.get(channel) if self._waiting else None
        return waiting is not None and any(cause[2] == path for cause in waiting.values())

    def fire(
        self, written: Written, ready: AbstractSet[str], senders: Sequence[tuple[Cause, ...]] = ()
    ) -> None:
        """End a superstep: what is ready starts the next one, the rest goes on waiting.

        Args:
            written: What its steps wrote to.
            ready: The channels that can start steps now.
            senders: Who sent each of the packets that the next superstep takes up, in their order.
        """
        self._sent = senders
        if not self._waiting and written.keys() <= ready:
            self._fired = written
            return
        for channel, writers in written.items():
            self._waiting.setdefault(channel, {}).update(writers)
        self._fired = {}
        for channel, writers in [*self._waiting.items()]:
            if channel in ready:
                self._fired[channel] = self._waiting.pop(channel)
            elif len(writers) > _MOST:
                self._waiting[channel] = dict(list(writers.items())[-_MOST:])

    def expect(self, key: str, cause: Cause) -> None:
        """Note that one step causes the step of this key, whatever else was written."""
        self._due[key] = (cause,)
