"""Calls of models and tools as readers get them back, and what was spent on them.

What is unknown is None, never zero. Nothing is read or computed here.
"""

from __future__ import annotations

from datetime import datetime

from pydantic import JsonValue

from spanflow.model.frozen import Frozen

__all__ = ["LlmCall", "Repeated", "TokenUsage", "ToolCall"]


class TokenUsage(Frozen):
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


class Repeated(Frozen):
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


class LlmCall(Frozen):
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


class ToolCall(Frozen):
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
