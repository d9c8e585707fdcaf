"""One row of each answer that says how many, how long and how much; the fields are its columns.

What is unknown is None, never zero; every time is a naive ``datetime`` in UTC; durations are
milliseconds. Nothing is computed here, and which way engagements went is told by ``rows``.
"""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated

from pydantic import BeforeValidator

from spanflow.query.rows import Row

__all__ = ["Cohort", "Compared", "Group", "Returned", "StepFigures", "Usage"]


def _as_date(value: object) -> object:
    return value.date() if isinstance(value, datetime) else value


Day = Annotated[date, BeforeValidator(_as_date)]


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
