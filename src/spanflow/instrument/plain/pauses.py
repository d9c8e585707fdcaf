"""A pause for a person, noted by plain code: what is asked, and the end of the turn that asks.

It suspends nothing: only a framework can stop its own run.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from spanflow.errors import PauseInGraphError
from spanflow.guard import guarded, report
from spanflow.instrument.plain import gate
from spanflow.instrument.plain.targets import scope_for
from spanflow.instrument.plain.turns import end_waiting

if TYPE_CHECKING:
    from spanflow.capture.scope import Scope

__all__ = ["pause"]

_LONGEST_LABEL = 128


def pause(
    awaiting: str | None = None,
    payload: Any = None,
    *,
    step_id: str | None = None,
    engagement_id: str | None = None,
) -> None:
    """Note that the agent now waits for a person, and end the turn.

    The open step and those around it then wait, which is no error. What the block still does after
    this belongs to no turn until :func:`~spanflow.resume` goes on.

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
    end_waiting(turn, scope.step)
