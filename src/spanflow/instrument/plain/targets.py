"""Which turn or step is meant: the one that the running code stands in, or one that is named.

What cannot be found is counted and dropped, so that a wrong id never reaches another engagement.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from spanflow.guard import diagnose

if TYPE_CHECKING:
    from spanflow.capture.scope import Scope

__all__ = ["named", "scope_for"]


def scope_for(
    function: str, step_id: str | None = None, engagement_id: str | None = None
) -> Scope | None:
    """Return the scope that something told by an app belongs to; None, and counted, without one.

    Args:
        function: What the app called.
        step_id: The open step that is meant.
        engagement_id: The engagement that is meant; alone, its turn that began last.
    """
    from spanflow.capture import scope as scopes

    if step_id is None and engagement_id is None:
        if scopes.current.get() is scopes.OFF:
            return None
        scope = scopes.live()
        if scope is None:
            diagnose(
                f"api.{function}",
                f"spanflow.{function}() was called outside every engagement, and what it told is "
                "dropped; open one with spanflow.engagement()",
            )
        return scope if scope is None else _still_open(scope)
    return named(function, step_id, engagement_id)


def _still_open(scope: Scope) -> Scope:
    """Return the scope of the innermost step that has not ended, else of the turn.

    A task or a copied context outlives the step that it was made in; what it tells must not be lost
    with a span that has ended.
    """
    step = scope.step
    if step is None or not step.is_over or scope.turn is None:
        return scope
    while step is not None and step.is_over:
        step = step.parent
    return step.scope if step is not None else scope.turn.scope


def named(function: str, step_id: str | None, engagement_id: str | None) -> Scope | None:
    """Return the scope of the open step or engagement of this id; None, and counted, without it."""
    from spanflow.capture import scope as scopes
    from spanflow.instrument.metadata import engagement_id_of

    wanted = engagement_id_of(engagement_id) if engagement_id is not None else None
    around = scopes.live()
    here = around.turn if around is not None else None
    # The running turn first, then the newest.
    # A list made at once: other threads begin turns meanwhile.
    begun = [turn for ref in scopes.turns.valuerefs() if (turn := ref()) is not None]
    for turn in [*([here] if here is not None else []), *reversed(begun)]:
        if turn.ended or (wanted is not None and turn.identity.engagement_id != wanted):
            continue
        if step_id is None:
            return around if around is not None and turn is here else turn.scope
        step = turn.steps.get(step_id)
        if step is not None:
            return step.scope
    what = f"step {step_id!r}" if step_id is not None else f"engagement {engagement_id!r}"
    diagnose(
        f"api.{function}",
        f"spanflow.{function}(): no {what} is open in this process; what it told is dropped",
    )
    return None
