"""Turns of plain code: how one is opened, and in which one the code of a block stands by now.

A turn that has paused is over, and the block that it was opened for may go on in another. Which
calls of an app open or end one is not decided here.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from spanflow.instrument import remembered

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from spanflow.capture.runtime import Runtime
    from spanflow.capture.scope import Scope
    from spanflow.capture.step import Step
    from spanflow.capture.turn import Turn

__all__ = ["Stand", "end_waiting", "leave", "open_turn", "passed_on"]

_LONGEST_RESOLUTION = 64
_lock = threading.RLock()
_stands: WeakValueDictionary[str, Stand] = WeakValueDictionary()
"""Where the code of each block stands, by the id of the block's turn."""


class Stand:
    """Where the code of a block stands: the turn it was entered for, and the one that goes on."""

    __slots__ = ("__weakref__", "first", "turn")

    def __init__(self, turn: Turn) -> None:
        self.first = self.turn = turn
        _stands[turn.span_id] = self

    def go_on(self, paused: Turn, opened: Callable[[], Turn]) -> bool:
        """Stand in the turn that follows; False where another thread was faster.

        Args:
            paused: The turn that was left.
            opened: Opens the one that follows.
        """
        with _lock:
            if self.turn is not paused:
                return False
            turn = opened()
            _stands.pop(paused.span_id)
            _stands[turn.span_id] = self
            paused.successor = self.first.successor = turn
            self.turn = turn
            return True


def leave(scope: Scope) -> Stand | None:
    """Return where a block stands whose turn has paused, which is over now; None where it is not.

    A turn in which a graph has paused is still open. As long as something else goes on in it, it is
    not left.
    """
    turn = scope.turn
    stand = _stands.get(turn.span_id) if turn is not None else None
    if turn is None or stand is None:
        return None
    with turn.lock:
        if not turn.ended:
            depth = scope.step.depth if scope.step is not None else 0
            if not turn.paused or turn.nested or len(turn.steps) > depth:
                return None
            end_waiting(turn, scope.step)
    return stand


def end_waiting(turn: Turn, step: Step | None) -> None:
    """End a turn as paused: the step that asks, and those around it, wait."""
    while step is not None:
        step.end("waiting")
        step = step.parent
    turn.close("paused")


def passed_on(scope: Scope, *, goes_on: bool) -> Scope:
    """Return where a graph stands that runs again in the block in which it paused: a new turn.

    Args:
        scope: Where it was called.
        goes_on: Whether it takes up what it paused at; else it begins anew.
    """
    stand, paused = leave(scope), scope.turn
    if stand is None or paused is None:
        return scope

    def opened() -> Turn:
        who = paused.identity
        turn = open_turn(paused.runtime, who.engagement_id, None, goes_on=goes_on, name=None)
        turn.holding |= paused.holding  # other threads still wait
        return turn

    stand.go_on(paused, opened)
    return stand.turn.scope


def open_turn(  # noqa: PLR0913 - what is known of a turn, by name
    runtime: Runtime,
    asked: str | None,
    resolution: str | None,
    *,
    goes_on: bool,
    name: str | None,
    user_id: str | None = None,
    session_id: str | None = None,
    goals: Sequence[str] | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> Turn:
    """Open a turn of an engagement.

    Args:
        runtime: Whom the capture serves.
        asked: The engagement's id, where the app gave one.
        resolution: What the app calls its answer.
        goes_on: Whether it answers what the engagement waits for.
        name: What the agent is called; this and what follows as :func:`engagement` takes it.
        user_id: Who came.
        session_id: The session.
        goals: What the user may have come for.
        metadata: Anything else.
    """
    from spanflow.capture import carried
    from spanflow.capture.identity import GraphShape, Identity
    from spanflow.capture.lineage import context_of
    from spanflow.capture.runtime import new_engagement_id
    from spanflow.capture.turn import Turn
    from spanflow.instrument import metadata as said

    brought = carried.engagement_id(runtime)
    engagement_id = asked or brought or new_engagement_id()
    seen = remembered.seen(runtime, engagement_id) or remembered.Seen()
    called = said.text(name) or seen.name
    kind = "resume" if goes_on else "message" if seen.turn is not None else "new"
    settings = runtime.settings
    given = said.given_names(goals)
    declared = given if given is not None else seen.goals
    identity = Identity(
        engagement_id=engagement_id,
        name=called,
        kind="remote" if engagement_id == brought else kind,
        is_unheard_of=asked is None and brought is None,
        user_id=said.identity_of(user_id),
        session_id=said.identity_of(session_id),
        metadata=said.kept(said.mapping(metadata), settings.metadata_keys, runtime.payload_bytes),
        goals=declared if declared is not None else said.names(None, settings.goals),
        goals_hold=True,
        goals_from="block" if given is not None else "default",
        global_steps=settings.global_steps,
        previous=seen.turn,
        answers=("*",) if goes_on else (),
        resolution=said.text(resolution, _LONGEST_RESOLUTION),
    )
    turn = Turn(runtime, GraphShape(None, called), identity)
    at = context_of(turn.trace_id, turn.span_id)
    remembered.note(runtime, engagement_id, remembered.Seen(called, declared, at))
    return turn
