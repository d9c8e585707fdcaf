"""What a turn's span says as it ends: the outcome, and what is left open; nothing is ended here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from spanflow import semconv
from spanflow.capture.payload import WHOLE_BYTES, fitted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from opentelemetry.util.types import AttributeValue

__all__ = ["end_attributes", "wait_attributes"]

_MOST_IDS = 128


def end_attributes(
    outcome: str,
    goals: Sequence[str],
    reached: Sequence[str],
    where: str | None,
    *,
    on_thread: bool,
) -> dict[str, AttributeValue]:
    """Return how a turn ended, and a preview of how its engagement stands.

    Args:
        outcome: ``completed``, ``paused``, ``failed``, ``cancelled`` or ``left``.
        goals: Those that hold in it.
        reached: Those of them that were reached.
        where: The path of the step at which it stood.
        on_thread: Whether the engagement can go on with another turn.
    """
    status, dropped_at = _preview(outcome, goals, reached, where, on_thread=on_thread)
    attributes: dict[str, AttributeValue] = {
        semconv.TURN_OUTCOME: outcome,
        semconv.ENGAGEMENT_STATUS: status,
    }
    if goals:
        attributes[semconv.TURN_GOALS] = goals
        attributes[semconv.TURN_GOALS_REACHED] = reached
    if dropped_at is not None:
        attributes[semconv.TURN_DROPPED_AT] = dropped_at
    return attributes


def wait_attributes(waits: Sequence[Mapping[str, Any]]) -> dict[str, AttributeValue]:
    """Return the ids of what is asked, and the questions where content is captured."""
    if not waits:
        return {}
    attributes: dict[str, AttributeValue] = {
        semconv.TURN_INTERRUPT_IDS: [wait["id"] for wait in waits[:_MOST_IDS]]
    }
    if "payload" in waits[0]:
        asked = [{"id": wait["id"], "payload": wait["payload"]} for wait in waits]
        text = fitted(asked, WHOLE_BYTES)
        if not text.truncated:
            attributes[semconv.TURN_INTERRUPTS] = text.text
    return attributes


def _preview(
    outcome: str,
    goals: Sequence[str],
    reached: Sequence[str],
    where: str | None,
    *,
    on_thread: bool,
) -> tuple[str, str | None]:
    """Return the engagement's status and drop-off as far as one turn alone can tell.

    SQL, which sees all turns, tells the rest.
    """
    if reached:
        return "completed", None
    if outcome == "paused":
        return "paused", None
    if outcome == "failed":
        return "failed", where
    if goals or outcome in ("cancelled", "left"):
        return ("active", None) if on_thread else ("abandoned", where)
    return "completed", None
