"""Reads what LiteLLM's `otel` callback writes, also onto spans that are not its own.

Where LiteLLM has no span of its own for a call, it writes onto whatever span is current.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from spanflow.capture.dialects.details import object_in, part

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["is_borrowed", "usage"]

SCOPE: Final = "litellm"
NAME: Final = "litellm_request"
MARKS: Final = ("litellm.call_id", "hidden_params", "gen_ai.cost.total_cost")
USAGE: Final = "metadata.usage_object"


def is_borrowed(name: str, scope: str, attributes: Mapping[str, object]) -> bool:
    """Whether the numbers were written onto a span that somebody else made, around the call."""
    return scope != SCOPE and name != NAME and any(key in attributes for key in MARKS)


def usage(attributes: Mapping[str, object]) -> dict[str, object]:
    """Return the numbers told, by the tally's names; the details are OpenAI's, as Python text."""
    whole = object_in(attributes.get(USAGE))
    given = part(whole, "prompt_tokens_details")
    return {
        "cache_read_tokens": given.get("cached_tokens"),
        "cache_write_tokens": given.get("cache_creation_tokens"),
        "reasoning_tokens": part(whole, "completion_tokens_details").get("reasoning_tokens"),
    }
