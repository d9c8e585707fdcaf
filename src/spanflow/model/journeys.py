"""Engagements, turns, steps, waits and events as readers get them back, one inside the other.

What is unknown is None, never zero. Nothing is read or computed here.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal, TypeAlias

from pydantic import JsonValue

from spanflow.model.calls import LlmCall, Repeated, TokenUsage, ToolCall
from spanflow.model.frozen import Frozen

__all__ = [
    "Engagement",
    "EngagementStatus",
    "Event",
    "Step",
    "StepStatus",
    "Turn",
    "TurnOutcome",
    "Wait",
]

EngagementStatus: TypeAlias = Literal[
    "active", "completed", "paused", "abandoned", "failed", "interrupted"
]
StepStatus: TypeAlias = Literal[
    "running", "completed", "failed", "waiting", "cancelled", "interrupted"
]
TurnOutcome: TypeAlias = Literal[
    "completed", "paused", "failed", "cancelled", "left", "interrupted"
]


class Event(Frozen):
    """Something that happened in a step or a turn and took no time of its own."""

    engagement_id: str | None = None
    """The engagement it belongs to."""
    turn_id: str | None = None
    """The turn it happened in: 16 hex digits."""
    step_id: str | None = None
    """The step it happened in: 16 hex digits; None for an event of the turn."""
    kind: str
    """``log``, ``error``, ``extraction``, ``goal``, ``intent_switch``, …"""
    name: str | None = None
    """What it is called."""
    occurred_at: datetime | None = None
    """When it happened (UTC)."""
    payload: JsonValue = None
    """What came with it."""


class Wait(Frozen):
    """The time an agent waited for a person: one question, from the turn that asked it first."""

    interrupt_id: str | None = None
    """Its id, where the framework gives one."""
    kind: str = "interrupt"
    """``interrupt``, or a breakpoint ``before`` or ``after`` a step."""
    step_name: str | None = None
    """The step that asked, or at which the breakpoint is."""
    path: str | None = None
    """That step's names from the top."""
    label: str | None = None
    """What was waited for, as the agent named it."""
    asked_at: datetime | None = None
    """When the agent paused (UTC)."""
    answered_at: datetime | None = None
    """When somebody answered (UTC); None while nobody has."""
    waited_ms: float | None = None
    """How long it took, in milliseconds."""
    resolution: str | None = None
    """How it ended: ``answered``, what the application called it, or ``superseded``."""
    answered_turn_id: str | None = None
    """The turn that ended it: 16 hex digits; None while it is open."""
    is_open: bool = False
    """Whether it is still waiting."""


class Step(Frozen):
    """One execution of one node, all its attempts together."""

    engagement_id: str | None = None
    """The engagement it belongs to."""
    turn_id: str | None = None
    """The turn it ran in: 16 hex digits."""
    step_id: str
    """Its own id: its span's 16 hex digits."""
    parent_step_id: str | None = None
    """The step whose graph it is part of; None at the top."""
    name: str
    """The node's name."""
    path: str | None = None
    """The names from the top, like ``search/look_up``."""
    visit: int | None = None
    """How many times this path had been visited in this turn and those it goes on, this visit
    included."""
    attempts: int | None = None
    """How many times it was tried."""
    status: StepStatus | None = None
    """Where it stands."""
    is_global: bool = False
    """Whether it can fire from anywhere."""
    replayed: bool = False
    """Whether an execution that began in an earlier turn was run again."""
    execution_id: str | None = None
    """The same for a pause and its resumption: 16 hex digits; None without checkpoints."""
    triggered_by: tuple[str, ...] = ()
    """The ids of the steps that caused it; empty where nobody tells."""
    tools_available: tuple[str, ...] = ()
    """The tools it could have called."""
    agent_name: str | None = None
    """The agent it belongs to."""
    started_at: datetime | None = None
    """When it began (UTC)."""
    ended_at: datetime | None = None
    """When it ended (UTC); None while it runs."""
    duration_ms: float | None = None
    """How long it took, in milliseconds."""
    waiting_ms: float | None = None
    """From its end to the last answer to what was asked in it, in milliseconds; None without."""
    error_type: str | None = None
    """The class of the error that ended it."""
    error_message: str | None = None
    """What that error said."""
    usage: TokenUsage = TokenUsage()
    """Tokens and price of its counted calls, those of the steps inside it included."""
    repeated: Repeated = Repeated()
    """The parts of these that were spent again."""
    llm_calls: int = 0
    """How many counted model calls it made, those of the steps inside it included."""
    tool_calls: int = 0
    """How many tool calls it made, those of the steps inside it included."""
    calls_without_usage: int = 0
    """How many of its model calls reported no tokens."""
    unpriced_calls: int = 0
    """How many of its model calls have no known price."""
    trace_id: str | None = None
    """Its trace: 32 hex digits."""
    span_id: str | None = None
    """Its span: 16 hex digits."""
    waits: tuple[Wait, ...] = ()
    """What it paused for and had not asked before, in the order of the questions' ids."""
    steps: tuple[Step, ...] = ()
    """The steps of the graph that ran inside it, oldest first."""
    calls: tuple[LlmCall | ToolCall, ...] = ()
    """The calls it made itself, oldest first."""
    events: tuple[Event, ...] = ()
    """What happened in it, oldest first."""


class Turn(Frozen):
    """One run of the agent: from the user's input until it ends, pauses or fails."""

    engagement_id: str | None = None
    """The engagement it belongs to."""
    turn_id: str
    """Its own id: its span's 16 hex digits."""
    trace_id: str | None = None
    """Its trace: 32 hex digits."""
    span_id: str | None = None
    """Its span: 16 hex digits."""
    kind: str | None = None
    """How it began: ``new``, ``message``, ``resume``, ``fork``, ``retry``, or ``remote``: called by
    a turn elsewhere."""
    outcome: TurnOutcome | None = None
    """How it ended; None while it is open."""
    goal: str | None = None
    """The goal reached in it."""
    graph_version: str | None = None
    """The topology it ran on: 16 hex digits."""
    started_at: datetime | None = None
    """When it began (UTC)."""
    ended_at: datetime | None = None
    """When it ended (UTC); None while it is open."""
    duration_ms: float | None = None
    """How long it took, in milliseconds."""
    previous_turn_id: str | None = None
    """The turn before it in the same engagement."""
    chain_id: str | None = None
    """The first of the turns that go on with each other; None where it stands alone."""
    answers: tuple[str, ...] | None = None
    """The questions it answers, ``*`` for the one that is open; None where it answers none."""
    resolution: str | None = None
    """``answered``, what the application called its answer, or ``conflict``: nothing was open."""
    origin_turn_id: str | None = None
    """The turn that a fork left from: 16 hex digits."""
    origin_step_id: str | None = None
    """The step of that turn that wrote the checkpoint: 16 hex digits."""
    error_type: str | None = None
    """The class of the error that ended it."""
    error_message: str | None = None
    """What that error said."""
    usage: TokenUsage = TokenUsage()
    """Tokens and price of its counted calls."""
    repeated: Repeated = Repeated()
    """The parts of these that were spent again."""
    llm_calls: int = 0
    """How many counted model calls it made."""
    tool_calls: int = 0
    """How many tool calls it made."""
    calls_without_usage: int = 0
    """How many of its model calls reported no tokens."""
    unpriced_calls: int = 0
    """How many of its model calls have no known price."""
    waits: tuple[Wait, ...] = ()
    """The breakpoints it paused at."""
    steps: tuple[Step, ...] = ()
    """Its steps at the top, oldest first; steps of nested graphs are inside these."""
    calls: tuple[LlmCall | ToolCall, ...] = ()
    """Calls made outside any step, oldest first."""
    events: tuple[Event, ...] = ()
    """What happened outside any step, oldest first."""


class Engagement(Frozen):
    """One whole session between a user and an agent."""

    engagement_id: str
    """Its id."""
    name: str | None = None
    """What was run: the graph's name, or the one given to the run."""
    status: EngagementStatus | None = None
    """Where it stands."""
    goal: str | None = None
    """The first goal reached."""
    dropped_at: str | None = None
    """The path of the step at which it was abandoned, failed or was interrupted."""
    abandon_reason: str | None = None
    """Why it counts as abandoned: ``left``, ``gave_up``, ``expired`` or ``interrupted``."""
    last_step: str | None = None
    """The path of the step at which it stands or stood last, whatever its status."""
    user_id: str | None = None
    """Who came."""
    session_id: str | None = None
    """The session the application named."""
    conversation_id: str | None = None
    """The thread it runs on."""
    metadata: dict[str, Any] | None = None
    """What the application said about it."""
    started_at: datetime | None = None
    """When its first turn began (UTC)."""
    last_seen_at: datetime | None = None
    """When something last happened in it (UTC)."""
    ended_at: datetime | None = None
    """When it ended (UTC); None while it can go on."""
    turns: int = 0
    """How many turns it has."""
    steps: int = 0
    """How many steps were executed in it."""
    llm_calls: int = 0
    """How many counted model calls it made."""
    tool_calls: int = 0
    """How many tool calls it made."""
    errors: int = 0
    """How many errors happened in it, those mended by a retry included."""
    usage: TokenUsage = TokenUsage()
    """Tokens and price of its counted calls."""
    repeated: Repeated = Repeated()
    """The parts of these that were spent again."""
    calls_without_usage: int = 0
    """How many of its model calls reported no tokens."""
    unpriced_calls: int = 0
    """How many of its model calls have no known price."""
    working_ms: float | None = None
    """How long the agent worked, in milliseconds."""
    waiting_ms: float | None = None
    """How long it waited for people, in milliseconds."""
    service_name: str | None = None
    """The service it ran in."""
    history: tuple[Turn, ...] = ()
    """Its turns, oldest first; empty where engagements are only listed."""
