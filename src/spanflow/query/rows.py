"""One row of each answer that tells which way engagements went; the fields are its columns.

What is unknown is None, never zero; every time is a naive ``datetime`` in UTC; durations are
milliseconds. Nothing is computed here, and rows of mere numbers are ``figures``.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Annotated, Any, cast

from pydantic import BeforeValidator, JsonValue

from spanflow.model import EngagementStatus
from spanflow.model.frozen import Frozen

__all__ = [
    "DropOff",
    "FunnelEngagement",
    "FunnelStep",
    "Journey",
    "PathTaken",
    "Row",
    "columns",
]


class Row(Frozen):
    """A row that cannot change; columns it does not know are left out."""


def _as_json(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return cast("object", json.loads(value))
    except ValueError:
        return value


Json = Annotated[JsonValue, BeforeValidator(_as_json)]


class FunnelStep(Row):
    """What became of the engagements at one step of a funnel."""

    position: int
    """Its place in the funnel, from 1."""
    step: str
    """Its full path, like ``search/look_up``."""
    reached: int
    """Engagements that came to it; the sum of the next six."""
    visits: int
    """How often they did; a resumed execution is the same visit."""
    advanced: int
    """Engagements that stand elsewhere or are completed."""
    waiting: int
    """Engagements that wait for a human here."""
    active: int
    """Engagements at work here."""
    failed: int
    """Engagements that failed here."""
    interrupted: int
    """Engagements whose process died here."""
    dropped: int
    """Engagements abandoned here."""
    conversion_rate: float | None
    """1 − dropped / reached; None for the last step and where nobody came."""
    step_rate: float | None
    """The part that reached the next step, too; None for the last and where nobody came."""
    avg_working_ms: float | None
    """Mean working time of a visit that ended."""
    p50_working_ms: float | None
    """Its median."""
    p95_working_ms: float | None
    """What 95 of 100 visits stay within."""
    p50_waiting_ms: float | None
    """The median of the answered waits here."""
    p95_waiting_ms: float | None
    """What 95 of 100 answered waits stay within."""
    input_tokens: int | None
    """Tokens sent to models in all visits."""
    output_tokens: int | None
    """Tokens that models wrote in all visits."""
    total_tokens: int | None
    """Both."""
    cost_usd: float | None
    """What all visits cost."""
    calls_without_usage: int | None
    """Calls of models that told no tokens."""
    unpriced_calls: int | None
    """Calls of models without a cost."""


class FunnelEngagement(Row):
    """One engagement that reached one step of a funnel."""

    position: int
    """The step's place in the funnel, from 1."""
    step: str
    """The step's full path."""
    engagement_id: str
    """The engagement."""
    outcome: str
    """``advanced``, ``waiting``, ``active``, ``failed``, ``interrupted`` or ``dropped``."""
    status: EngagementStatus
    """The engagement's status."""
    visits: int
    """How often it came to the step."""
    first_at: datetime | None
    """When it first did."""
    working_ms: float | None
    """Working time of its visits; None where none ended."""
    total_tokens: int | None
    """Tokens of its visits."""
    cost_usd: float | None
    """What its visits cost."""
    trace_id: str | None
    """The trace of its last visit."""
    turn_id: str | None
    """The turn of its last visit."""
    step_id: str | None
    """Its last visit."""


class Journey(Row):
    """One engagement in one line."""

    engagement_id: str
    """Its id."""
    name: str | None
    """What the agent is called."""
    status: EngagementStatus
    """How it stands."""
    abandon_reason: str | None
    """Why it was abandoned."""
    dropped_at: str | None
    """The step where it was abandoned, failed or was interrupted."""
    last_step: str | None
    """The step where it stands."""
    user_id: str | None
    """Whose it is."""
    session_id: str | None
    """The application's session."""
    conversation_id: str | None
    """Its thread."""
    metadata: Json = None
    """What the application said of it."""
    started_at: datetime | None
    """When it began."""
    last_seen_at: datetime | None
    """The last sign of life."""
    turns: int
    """How many turns it has."""
    path: tuple[str, ...]
    """Its steps at the top, in order."""
    working_ms: float | None
    """Time the agent worked."""
    waiting_ms: float | None
    """Time a human was waited for."""
    llm_calls: int
    """Calls of models that count."""
    tool_calls: int
    """Calls of tools that count."""
    total_tokens: int | None
    """Tokens of all its calls."""
    cost_usd: float | None
    """What it cost."""
    trace_ids: tuple[str, ...]
    """A trace a turn."""


class PathTaken(Row):
    """One way through the agent, and who took it."""

    path: tuple[str, ...]
    """Its steps; repeats in a row are one, ``…`` stands for what is cut off."""
    engagements: int
    """How many took it."""
    share: float
    """The part of all chosen engagements."""
    completed: int
    """How many of them are completed."""
    abandoned: int
    """How many of them are abandoned."""
    failed: int
    """How many of them failed."""
    p50_working_ms: float | None
    """The median of their working time."""
    total_tokens: int | None
    """Their tokens."""
    cost_usd: float | None
    """What they cost."""
    example_engagement_id: str | None
    """One of them."""


class DropOff(Row):
    """Where engagements ended without a goal, and how."""

    step: str | None
    """The step's path; None where no step had begun."""
    status: EngagementStatus
    """``abandoned``, ``failed`` or ``interrupted``."""
    reason: str | None
    """Why: the reason it was abandoned, the type of the error."""
    engagements: int
    """How many."""
    share: float
    """The part of all chosen engagements."""
    of_reached: float | None
    """The part of those that reached this step."""
    p50_lived_ms: float | None
    """The median of the time from their beginning to their last sign of life."""
    total_tokens: int | None
    """Their tokens."""
    cost_usd: float | None
    """What they cost."""
    example_engagement_id: str | None
    """One of them."""


def columns(row: type[Row]) -> dict[str, Any]:
    """Return the columns of a row and their types, in order."""
    return {name: field.annotation for name, field in row.model_fields.items()}
