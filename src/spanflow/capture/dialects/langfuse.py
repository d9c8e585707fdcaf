"""Reads what Langfuse writes as JSON inside its attributes.

Its parts of input and output exclude one another, so that they are added up here.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Final

from spanflow.capture.dialects.details import first, object_in

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["first_token_ms", "usage"]

USAGE: Final = "langfuse.observation.usage_details"
COST: Final = "langfuse.observation.cost_details"
FIRST_TOKEN: Final = "langfuse.observation.completion_start_time"  # noqa: S105 - a key


def usage(attributes: Mapping[str, object]) -> dict[str, object]:
    """Return the numbers told, by the tally's names."""
    details = object_in(attributes.get(USAGE))
    costs = object_in(attributes.get(COST))
    # OpenAI's own names are passed on untouched.
    found: dict[str, object] = {
        "input_tokens": details.get("prompt_tokens", _sum(details, "input")),
        "output_tokens": details.get("completion_tokens", _sum(details, "output")),
        "total_tokens": details.get("total", details.get("total_tokens")),
        "cache_read_tokens": first(details, ("input_cache_read", "input_cached_tokens")),
        "cache_write_tokens": first(details, ("input_cache_creation", "input_cache_write")),
        "reasoning_tokens": first(details, ("output_reasoning", "output_reasoning_tokens")),
        "cost_usd": costs.get("total", _sum(costs, "")),
    }
    return {field: value for field, value in found.items() if value is not None}


def first_token_ms(attributes: Mapping[str, object], started_ns: int | None) -> float | None:
    """Return how long after its start the first piece of the answer came, in milliseconds."""
    moment = attributes.get(FIRST_TOKEN)
    if not isinstance(moment, str) or started_ns is None:
        return None
    try:
        at = datetime.fromisoformat(moment.strip('"')).timestamp()
    except (ValueError, OverflowError, OSError):
        return None
    waited_ms = at * 1_000.0 - started_ns / 1_000_000
    return waited_ms if waited_ms >= 0 else None


def _sum(details: Mapping[str, object], prefix: str) -> object:
    """Add up the numbers named so; the first that is none is returned, to be refused."""
    total: int | float | None = None
    for key, value in details.items():
        if not key.startswith(prefix):
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
            return value
        total = value if total is None else total + value
    return total
