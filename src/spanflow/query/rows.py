"""One row of each answer about many engagements, frozen; the fields are the question's columns.

What is unknown is None, never zero; every time is a naive ``datetime`` in UTC; durations are
milliseconds. This module reads and computes nothing.
"""

from __future__ import annotations

import json
from datetime import date, datetime
from typing import Annotated, Any, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict, JsonValue

from spanflow.model import EngagementStatus

__all__ = [
    "Cohort",
    "Compared",
    "DropOff",
    "FunnelEngagement",
    "FunnelStep",
    "Group",
    "Journey",
    "PathTaken",
    "Returned",
    "Row",
    "StepFigures",
    "Usage",
    "columns",
]


class Row(BaseModel):
    """A row that cannot change; columns it does not know are left out."""

    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)


def _as_json(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return cast("object", json.loads(value))
    except ValueError:
        return value


def _as_date(value: object) -> object:
    return value.date() if isinstance(value, datetime) else value


Json = Annotated[JsonValue, BeforeValidator(_as_json)]
Day = Annotated[date, BeforeValidator(_as_date)]


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


class StepFigures(Row):
    """How long one step takes, how often it fails, what it costs."""

    step: str
    """Its full path."""
    engagements: int
    """Engagements that reached it."""
    visits: int
    """How often they did."""
    executions: int
    """How often it ran: a resumed one twice."""
    attempts: int | None
    """How often it was tried, retries included."""
    failed: int
    """Visits whose last execution failed."""
    cancelled: int
    """Visits whose last execution was cancelled."""
    interrupted: int
    """Visits whose last execution died with its process."""
    waited: int
    """Visits that waited for a human."""
    failure_rate: float | None
    """The part of the visits that failed."""
    avg_working_ms: float | None
    """Mean working time of a visit that ended."""
    p50_working_ms: float | None
    """Its median."""
    p95_working_ms: float | None
    """What 95 of 100 visits stay within."""
    p99_working_ms: float | None
    """What 99 of 100 visits stay within."""
    p50_waiting_ms: float | None
    """The median of the answered waits here."""
    p95_waiting_ms: float | None
    """What 95 of 100 answered waits stay within."""
    llm_calls: int | None
    """Calls of models."""
    tool_calls: int | None
    """Calls of tools."""
    input_tokens: int | None
    """Tokens sent to models."""
    output_tokens: int | None
    """Tokens that models wrote."""
    total_tokens: int | None
    """Both."""
    cost_usd: float | None
    """What it cost."""
    calls_without_usage: int | None
    """Calls of models that told no tokens."""
    unpriced_calls: int | None
    """Calls of models without a cost."""
    replayed_tokens: int | None
    """Tokens spent again because a pause was resumed."""
    retried_tokens: int | None
    """Tokens spent again because something failed."""
    forked_tokens: int | None
    """Tokens spent on leaving from an earlier checkpoint."""


class Usage(Row):
    """Tokens and cost of the calls that have one thing in common, or two."""

    key: str | None
    """What they have in common, like the model's name; None where they do not tell."""
    split: str | None
    """What they have in common besides; None where nothing was asked for."""
    calls: int
    """How many calls of models."""
    input_tokens: int | None
    """Tokens sent to models, cached ones included."""
    output_tokens: int | None
    """Tokens that models wrote, reasoning included."""
    cache_read_tokens: int | None
    """Input tokens that came out of a cache."""
    cache_write_tokens: int | None
    """Input tokens that were written into a cache."""
    reasoning_tokens: int | None
    """Output tokens spent on reasoning."""
    total_tokens: int | None
    """Input and output."""
    cost_usd: float | None
    """What could be priced of them."""
    calls_without_usage: int | None
    """Calls that told no tokens."""
    unpriced_calls: int | None
    """Calls without a cost."""
    replayed_tokens: int | None
    """Tokens spent again because a pause was resumed."""
    retried_tokens: int | None
    """Tokens spent again because something failed."""
    forked_tokens: int | None
    """Tokens spent on leaving from an earlier checkpoint."""
    engagements: int
    """How many engagements they belong to."""


class Cohort(Row):
    """The users who first came in one period."""

    cohort: Day
    """The period's first day."""
    users: int
    """How many."""
    engagements: int
    """All engagements they ever had."""
    completed: int
    """How many of these are completed."""
    abandoned: int
    """How many of these are abandoned."""
    failed: int
    """How many of these failed."""
    completion_rate: float | None
    """The part that is completed."""
    engagements_per_user: float | None
    """How often a user came."""
    total_tokens: int | None
    """Their tokens."""
    cost_usd: float | None
    """What they cost."""


class Returned(Row):
    """How many users of a cohort came in one later period."""

    cohort: Day
    """The first day of the period in which they first came."""
    period: int
    """How many periods later; 0 is the first one itself."""
    users: int
    """The cohort's users."""
    returned: int
    """Those who came in this period."""
    rate: float | None
    """Their part."""


class Compared(Row):
    """One number of two sets of engagements."""

    metric: str
    """What is compared, like ``completion_rate``."""
    a: float | None
    """The first set's."""
    b: float | None
    """The second set's."""
    difference: float | None
    """b − a."""
    ratio: float | None
    """b / a."""


class Group(Row):
    """The engagements that have one thing in common."""

    key: str | None
    """What they have in common, like the user; None where they do not tell."""
    engagements: int
    """How many."""
    active: int
    """How many of them are active."""
    paused: int
    """How many of them wait for a human."""
    completed: int
    """How many of them are completed."""
    abandoned: int
    """How many of them are abandoned."""
    failed: int
    """How many of them failed."""
    interrupted: int
    """How many of them died with their process."""
    turns: int
    """Their turns."""
    steps: int
    """Their steps."""
    llm_calls: int
    """Their calls of models."""
    total_tokens: int | None
    """Their tokens."""
    cost_usd: float | None
    """What they cost."""
    working_ms: float | None
    """Time the agent worked."""
    waiting_ms: float | None
    """Time humans were waited for."""
    first_at: datetime | None
    """When the first began."""
    last_at: datetime | None
    """The last sign of life."""


def columns(row: type[Row]) -> dict[str, Any]:
    """Return the columns of a row and their types, in order."""
    return {name: field.annotation for name, field in row.model_fields.items()}
