"""What readers get back from a ledger: engagements, turns, steps, events and calls, frozen.

Field names are the columns of the ledger's views. Two rules hold everywhere: what is unknown is
None, never zero, and every time is a naive ``datetime`` in UTC. This module reads and computes
nothing.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, JsonValue

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

EngagementStatus: TypeAlias = Literal[
    "active", "completed", "paused", "abandoned", "failed", "interrupted"
]
StepStatus: TypeAlias = Literal[
    "running", "completed", "failed", "waiting", "cancelled", "interrupted"
]
TurnOutcome: TypeAlias = Literal[
    "completed", "paused", "failed", "cancelled", "left", "interrupted"
]


class _Frozen(BaseModel):
    """A value that cannot change; columns it does not know are left out."""

    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)


class TokenUsage(_Frozen):
    """Tokens of one call, or the sum over many; what nobody reported is None."""

    input_tokens: int | None = None
    """Tokens sent to the model, the cached ones included."""
    output_tokens: int | None = None
    """Tokens the model wrote, its reasoning included."""
    cache_read_tokens: int | None = None
    """The part of the input tokens that came out of the provider's cache."""
    cache_write_tokens: int | None = None
    """The part of the input tokens that was written into the provider's cache."""
    reasoning_tokens: int | None = None
    """The part of the output tokens spent on reasoning."""
    total_tokens: int | None = None
    """Input and output tokens together, or the total the provider gave."""
    cost_usd: float | None = None
    """Price in US dollars of what could be priced."""


class LlmCall(_Frozen):
    """One call of a chat or embeddings model."""

    engagement_id: str | None = None
    """The engagement it belongs to; None for a call outside any."""
    turn_id: str | None = None
    """The turn it ran in: 16 hex digits."""
    step_id: str | None = None
    """The step it ran in: 16 hex digits; None where no step was open."""
    step_name: str | None = None
    """That step's name."""
    operation: str | None = None
    """What was asked for: ``chat``, ``text_completion``, ``generate_content`` or ``embeddings``."""
    provider: str | None = None
    """Who served it, like ``openai``."""
    model: str | None = None
    """The model that answered, else the one asked."""
    usage: TokenUsage = TokenUsage()
    """Its tokens and price."""
    counted: bool = True
    """Whether it is part of the sums."""
    not_counted_because: str | None = None
    """Why it is not: another instrumentor saw the same call, or it ran inside another call."""
    repeats: str | None = None
    """Whether it repeats an earlier call: ``replay``, ``retry`` or ``fork``; None where not."""
    status: str | None = None
    """``ok`` or ``error``."""
    started_at: datetime | None = None
    """When it began (UTC)."""
    duration_ms: float | None = None
    """How long it took, in milliseconds."""
    time_to_first_token_ms: float | None = None
    """Milliseconds until the first piece of a streamed answer."""
    caller: str | None = None
    """Who made a call outside any engagement."""
    trace_id: str | None = None
    """Its trace: 32 hex digits."""
    span_id: str | None = None
    """Its span: 16 hex digits."""


class ToolCall(_Frozen):
    """One call of a tool."""

    engagement_id: str | None = None
    """The engagement it belongs to."""
    turn_id: str | None = None
    """The turn it ran in: 16 hex digits."""
    step_id: str | None = None
    """The step it ran in: 16 hex digits; None where no step was open."""
    step_name: str | None = None
    """That step's name."""
    name: str | None = None
    """The tool's name."""
    call_id: str | None = None
    """The id the model gave to the call."""
    arguments: JsonValue = None
    """What the tool was given; None unless message content is captured."""
    result: JsonValue = None
    """What the tool answered; None unless message content is captured."""
    repeats: str | None = None
    """Whether it repeats an earlier call: ``replay``, ``retry`` or ``fork``; None where not."""
    status: str | None = None
    """``ok`` or ``error``."""
    error_type: str | None = None
    """The class of the error that ended it."""
    started_at: datetime | None = None
    """When it began (UTC)."""
    duration_ms: float | None = None
    """How long it took, in milliseconds."""
    trace_id: str | None = None
    """Its trace: 32 hex digits."""
    span_id: str | None = None
    """Its span: 16 hex digits."""


class Event(_Frozen):
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


class Repeated(_Frozen):
    """What was spent on calls that repeat earlier ones; zero where there were none."""

    replayed_tokens: int | None = None
    """Tokens of calls made again because a node was resumed from its beginning."""
    retried_tokens: int | None = None
    """Tokens of calls in later attempts, or after a failure or a crash."""
    forked_tokens: int | None = None
    """Tokens of calls in turns that left from an earlier checkpoint."""
    replayed_cost_usd: float | None = None
    """Price in US dollars of the replayed calls."""
    retried_cost_usd: float | None = None
    """Price in US dollars of the retried calls."""
    forked_cost_usd: float | None = None
    """Price in US dollars of the calls in forks."""


class Wait(_Frozen):
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


class Step(_Frozen):
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


class Turn(_Frozen):
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


class Engagement(_Frozen):
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


class Change(_Frozen):
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
