"""What an app says about its own run, from inside it: so far, that the user gave up.

Nothing is imported here: an app may say it whether or not anything is captured, and outside a run
nothing happens.
"""

from __future__ import annotations

import sys
import time

from spanflow.guard import guarded

__all__ = ["gave_up"]

_LONGEST_REASON = 256


@guarded("marks.gave_up")
def gave_up(reason: str | None = None) -> None:
    """Mark the run that is going on as given up by its user.

    Unless a goal is reached all the same, the engagement then counts as abandoned from the end of
    this turn on, without waiting for it to fall silent. Outside a run, or where nothing is
    captured, this does nothing; it never raises.

    Args:
        reason: Why, in a few words: kept with the mark, at most 256 characters. It is recorded
            whether or not content is captured, so do not put there what the user wrote.

    Example:
        >>> import spanflow
        >>> def farewell(state):
        ...     spanflow.gave_up("too expensive")
        ...     return {"reply": "Maybe another time."}
        >>> farewell({})
        {'reply': 'Maybe another time.'}
    """
    scopes = sys.modules.get("spanflow.capture.scope")
    scope = scopes.live() if scopes is not None else None
    if scope is None or scope.turn is None:
        return
    from spanflow.capture.events import Event  # noqa: PLC0415 - loaded with the scope
    from spanflow.capture.payload import free_text  # noqa: PLC0415

    payload = {"reason": free_text(reason, _LONGEST_REASON)} if reason is not None else None
    scope.turn.add_event(Event("gave_up", "gave_up", time.time_ns(), payload))
