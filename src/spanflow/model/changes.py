"""What a follower of a ledger is told of, one beginning or end at a time; it follows nothing."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from spanflow.model.calls import TokenUsage
from spanflow.model.frozen import Frozen

__all__ = ["Change"]


class Change(Frozen):
    """Something that began or ended, as a follower of the ledger is told."""

    kind: str
    """``turn``, ``step``, ``llm_call``, ``tool_call``, ``retrieval``, ``workflow`` or ``span``."""
    phase: Literal["started", "ended"]
    """What is known of it now; what ended before anybody looked is told once, as ended."""
    engagement_id: str | None = None
    """The engagement it belongs to."""
    turn_id: str | None = None
    """The turn it belongs to: 16 hex digits."""
    step_id: str | None = None
    """The step it is, or happened in: 16 hex digits."""
    name: str | None = None
    """What it is called: the engagement, the node, the model, the tool."""
    path: str | None = None
    """A step's names from the top, like ``search/look_up``."""
    status: str | None = None
    """How it stands: of a turn its outcome, of a step its status, of a call ``ok`` or ``error``."""
    at: datetime | None = None
    """When it began or ended (UTC)."""
    duration_ms: float | None = None
    """How long it took, in milliseconds; None while it goes on."""
    error_type: str | None = None
    """The class of the error that ended it."""
    usage: TokenUsage = TokenUsage()
    """Tokens and price: a call's own, of steps and turns the sums of what is known so far."""
    trace_id: str | None = None
    """Its trace: 32 hex digits."""
    span_id: str | None = None
    """Its span: 16 hex digits."""
    revision: int = 0
    """The ledger's revision that brought it; grows, and one revision brings many changes."""
