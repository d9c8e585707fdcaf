"""Engagements of plain Python: a block is one turn, and a resume is the block that goes on.

Inside a run that is going on already, of a graph or of such a block, no second turn begins.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from spanflow.guard import guarded
from spanflow.instrument.endings import ending_of
from spanflow.instrument.plain import gate
from spanflow.instrument.plain.block import Block
from spanflow.instrument.plain.turns import Stand, leave, open_turn

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from spanflow.capture.inside import Inside
    from spanflow.capture.runtime import Runtime
    from spanflow.capture.scope import Scope
    from spanflow.capture.turn import Turn

__all__ = ["EngagementBlock", "engagement", "resume"]

_OUTCOMES = {"waiting": "paused"}


class EngagementBlock(Block):
    """One turn of an engagement, as a ``with`` block.

    Attributes:
        engagement_id: The engagement's id. Where nothing is captured it is the one that was given.
        turn_id: The turn's id: 16 hex digits; None where nothing is captured.
    """

    __slots__ = (
        "_given",
        "_goes_on",
        "_has_begun",
        "_identity",
        "_resolution",
        "_stand",
        "engagement_id",
        "turn_id",
    )

    site = "api.engagement"

    def __init__(
        self, given: str | None, resolution: str | None = None, *, goes_on: bool, **identity: Any
    ) -> None:
        super().__init__()
        self._given = given
        self._resolution = resolution if goes_on else None
        self._goes_on = goes_on
        self._identity = identity
        self._stand: Stand | None = None
        self._has_begun = False
        self.engagement_id = given
        self.turn_id: str | None = None

    def begin(self) -> None:
        """Open the turn."""
        self._has_begun = True
        super().begin()

    def __del__(self) -> None:
        """Note a resume that nobody entered: the wait was answered, and nothing ran in the turn."""
        if getattr(self, "_goes_on", False) and not self._has_begun and not sys.is_finalizing():
            self.begin()
            self.end()

    @guarded("api.resume")
    def take_over(self) -> None:
        """Begin at once where the block around is the one that was paused: the rest of it is ours.

        The turn ends with the block around, whether or not this one is entered, but for an error.
        """
        runtime = gate.runtime()
        if runtime is None:
            return
        from spanflow.capture import scope as scopes
        from spanflow.capture.inside import follow

        scope = scopes.current.get()
        paused = scope.turn if scope is not None else None
        if scope is None or paused is None or paused.identity.engagement_id != self._asked():
            return
        stand = leave(scope)
        if stand is None:
            return
        if stand.go_on(paused, lambda: self._start(runtime)):
            self._stand, self._has_begun = stand, True
        follow()

    def _asked(self) -> str | None:
        from spanflow.instrument.metadata import engagement_id_of

        given = self._given
        return engagement_id_of(given) if given is not None and given != "" else None

    def _start(self, runtime: Runtime) -> Turn:
        turn = open_turn(
            runtime, self._asked(), self._resolution, goes_on=self._goes_on, **self._identity
        )
        self.engagement_id, self.turn_id = turn.identity.engagement_id, turn.span_id
        return turn

    def _open(self, runtime: Runtime) -> Inside | None:
        from spanflow.capture import processor
        from spanflow.capture import scope as scopes
        from spanflow.capture.inside import Inside

        if self._stand is not None and not self._stand.turn.ended:  # it took over
            return Inside(self._stand.turn.scope, self._stand.turn.context)
        if scopes.current.get() is scopes.OFF:
            return None
        asked = self._asked()
        around = scopes.live()
        if around is not None and around.turn is not None:
            going_on = around.turn.identity.engagement_id
            if asked is None or asked == going_on:
                self.engagement_id, self.turn_id = going_on, around.turn.span_id
                return None
        processor.attach(runtime)  # the user's provider may have come after us
        turn = self._start(runtime)
        self._stand = Stand(turn)
        return Inside(turn.scope, turn.context)

    def _close(self, error: BaseException | None) -> None:
        stand, self._stand = self._stand, None
        if stand is None:
            return
        ending, turn = ending_of(error), stand.turn
        if ending == "completed" and stand.first.span_id != self.turn_id:
            return  # the block around was there first, and ends it
        outcome = _OUTCOMES.get(ending, ending)
        if outcome == "completed" and turn.paused:
            outcome = "paused"
        turn.close(outcome, error)

    @property
    def scope(self) -> Scope | None:
        """Where what is inside stands; None where nothing of its own was opened."""
        return self._stand.turn.scope if self._stand is not None else None


def engagement(  # noqa: PLR0913 - what is known of an engagement, by name
    name: str,
    *,
    id: str | None = None,  # noqa: A002 - the word for it
    user_id: str | None = None,
    session_id: str | None = None,
    goals: Sequence[str] | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> EngagementBlock:
    """Open a turn of an engagement around a block of code: ``with`` or ``async with``.

    Inside a run that is going on (a graph's node, another such block) it joins that run, unless it
    names another engagement. A graph that runs inside becomes part of this turn.

    Args:
        name: What the agent is called; funnels and lists tell engagements apart by it.
        id: The engagement's id; a new one where none is given. Give the same id again, in any
            process, and the next turn belongs to the same engagement.
        user_id: Who came.
        session_id: The session, as the app counts them.
        goals: Steps or marks that mean the user got what they came for; without it those of its
            last turn in this process, else ``SPANFLOW_GOALS``. An engagement that reaches none of
            them counts as abandoned.
        metadata: Anything else worth asking for, as JSON-able values.

    Returns:
        The block; as ``e`` it has ``e.engagement_id`` and ``e.turn_id``.

    Example:
        >>> import spanflow
        >>> with spanflow.engagement("support", id="case-17", user_id="ada", goals=["solved"]) as e:
        ...     with spanflow.step("triage"):
        ...         spanflow.log("priority", level=2)
        ...     spanflow.goal("solved")
        >>> e.engagement_id
        'case-17'
    """
    return EngagementBlock(
        id,
        goes_on=False,
        name=name,
        user_id=user_id,
        session_id=session_id,
        goals=goals,
        metadata=metadata,
    )


def resume(
    engagement_id: str,
    *,
    name: str | None = None,
    goals: Sequence[str] | None = None,
    resolution: str | None = None,
) -> EngagementBlock:
    """Go on with an engagement that was paused: a new turn of it, which answers what it waits for.

    Without ``with`` it notes the answer: in the block that was paused, what follows is the new
    turn; anywhere else the turn is over at once.

    Args:
        engagement_id: The engagement, paused in this process or in another.
        name: What the agent is called, where this process does not know that yet.
        goals: As :func:`engagement` takes them, where this process does not know them yet.
        resolution: What the answer amounts to, like ``approved``; ``gave_up`` and ``expired`` end
            the engagement. Without it the wait was simply answered.

    Returns:
        The block, as :func:`engagement` does.

    Example:
        >>> import spanflow
        >>> with spanflow.engagement("booking", id="trip-4") as e:
        ...     with spanflow.step("confirm"):
        ...         spanflow.pause("approval", {"price_usd": 95})
        >>> with spanflow.resume("trip-4", resolution="approved"):
        ...     with spanflow.step("pay"):
        ...         pass
    """
    block = EngagementBlock(engagement_id, resolution, goes_on=True, name=name, goals=goals)
    block.take_over()
    return block
