"""Engagements of plain Python: a block is one turn; a pause ends it, and a resume goes on.

Inside a run that is going on already, of a graph or of such a block, no second turn begins.
"""

from __future__ import annotations

import sys
import threading
import time
from typing import TYPE_CHECKING, Any
from uuid import uuid4
from weakref import WeakValueDictionary

from spanflow.errors import PauseInGraphError
from spanflow.guard import guarded, report
from spanflow.instrument import remembered
from spanflow.instrument.endings import ending_of
from spanflow.instrument.plain import gate
from spanflow.instrument.plain.block import Block
from spanflow.instrument.plain.targets import scope_for

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from spanflow.capture.inside import Inside
    from spanflow.capture.runtime import Runtime
    from spanflow.capture.scope import Scope
    from spanflow.capture.step import Step
    from spanflow.capture.turn import Turn

__all__ = ["EngagementBlock", "engagement", "pause", "resume"]

_LONGEST_LABEL = 128
_LONGEST_RESOLUTION = 64
_OUTCOMES = {"waiting": "paused"}
_lock = threading.RLock()
_stands: WeakValueDictionary[str, _Stand] = WeakValueDictionary()
"""Where the code of each block stands, by the id of the block's turn."""


class _Stand:
    """Where the code of a block stands: the turn it was entered for, and the one that goes on."""

    __slots__ = ("__weakref__", "first", "turn")

    def __init__(self, turn: Turn) -> None:
        self.first = self.turn = turn
        _stands[turn.span_id] = self

    def go_on(self, turn: Turn) -> None:
        """Stand in the turn that follows."""
        _stands.pop(self.turn.span_id)
        _stands[turn.span_id] = self
        self.turn.successor = self.first.successor = turn
        self.turn = turn


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
        self._stand: _Stand | None = None
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
        stand = _leave(scope)
        if stand is None:
            return
        with _lock:
            if stand.turn is paused:  # else another thread was faster
                stand.go_on(self._start(runtime))
                self._stand, self._has_begun = stand, True
        follow()

    def _asked(self) -> str | None:
        from spanflow.instrument.metadata import engagement_id_of

        given = self._given
        return engagement_id_of(given) if given is not None and given != "" else None

    def _start(self, runtime: Runtime) -> Turn:
        turn = _begin(
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
        self._stand = _Stand(turn)
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


def pause(
    awaiting: str | None = None,
    payload: Any = None,
    *,
    step_id: str | None = None,
    engagement_id: str | None = None,
) -> None:
    """Note that the agent now waits for a person, and end the turn.

    The open step and those around it then wait, which is no error. What the block still does after
    this belongs to no turn until :func:`resume` goes on.

    Args:
        awaiting: What is waited for, in a word or two: the wait's label.
        payload: The question itself; kept only where message content is captured.
        step_id: The open step that waits, where it is another.
        engagement_id: The open engagement that is meant, where it is another.

    Raises:
        PauseInGraphError: It was called inside a LangGraph node, where only LangGraph's own
            ``interrupt()`` can pause the run.

    Example:
        >>> import spanflow
        >>> with spanflow.engagement("booking"), spanflow.step("confirm"):
        ...     spanflow.pause("approval")
    """
    if gate.runtime() is None:
        return
    try:
        scope = scope_for("pause", step_id, engagement_id)
        in_graph = scope is not None and scope.frame is not None and scope.frame.shape.version
    except Exception as error:  # noqa: BLE001 - the fail-open boundary
        report("api.pause", error)
        return
    if in_graph:
        raise PauseInGraphError
    if scope is not None:
        _pause(scope, awaiting, payload)


@guarded("api.pause")
def _pause(scope: Scope, awaiting: str | None, payload: Any) -> None:
    from spanflow.capture.content import captures_content
    from spanflow.capture.events import Event
    from spanflow.capture.payload import clean, json_payload

    turn = scope.turn
    if turn is None:
        return
    asked: dict[str, Any] = {"id": uuid4().hex}
    if awaiting is not None:
        asked["awaiting"] = clean(awaiting, _LONGEST_LABEL)
    if captures_content():
        asked["payload"] = json_payload(payload, turn.runtime.payload_bytes)
    turn.note_wait(asked["id"], asked)
    event = Event("wait", "wait", time.time_ns(), asked)
    if scope.step is None:
        at = {"step": turn.last_started} if turn.last_started is not None else {}
        turn.add_event(Event("wait", "wait", event.at_ns, {**asked, **at}))
    else:
        scope.step.add_event(event)
    _end_waiting(turn, scope.step)


def _end_waiting(turn: Turn, step: Step | None) -> None:
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
    stand = _leave(scope)
    if stand is None:
        return scope
    with _lock:
        paused = stand.turn
        if paused is scope.turn:
            who = paused.identity
            turn = _begin(paused.runtime, who.engagement_id, None, goes_on=goes_on, name=None)
            turn.holding |= paused.holding  # other threads still wait
            stand.go_on(turn)
    return stand.turn.scope


def _leave(scope: Scope) -> _Stand | None:
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
            _end_waiting(turn, scope.step)
    return stand


def _begin(  # noqa: PLR0913 - what is known of a turn, by name
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
