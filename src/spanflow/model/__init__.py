"""What readers get back from a ledger: engagements, turns, steps, events and calls, frozen.

Field names are the columns of the ledger's views. Two rules hold everywhere: what is unknown is
None, never zero, and every time is a naive ``datetime`` in UTC. This package reads and computes
nothing.
"""

from __future__ import annotations

from spanflow.model.calls import LlmCall, Repeated, TokenUsage, ToolCall
from spanflow.model.changes import Change
from spanflow.model.journeys import (
    Engagement,
    EngagementStatus,
    Event,
    Step,
    StepStatus,
    Turn,
    TurnOutcome,
    Wait,
)

__all__ = [
    "Change",
    "Engagement",
    "EngagementStatus",
    "Event",
    "LlmCall",
    "Repeated",
    "Step",
    "StepStatus",
    "TokenUsage",
    "ToolCall",
    "Turn",
    "TurnOutcome",
    "Wait",
]
