"""Reads what LangSmith's OpenTelemetry mode writes inside its attributes.

The details of usage stand in attributes of their own in some versions, as a Python dict's text; in
others only in the metadata of the run, as LangChain knows them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from spanflow.capture.dialects.details import object_in, part

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["usage"]

INPUT_DETAILS: Final = "gen_ai.usage.input_token_details"
OUTPUT_DETAILS: Final = "gen_ai.usage.output_token_details"
METADATA: Final = "langsmith.metadata.usage_metadata"


def usage(attributes: Mapping[str, object]) -> dict[str, object]:
    """Return the numbers told, by the tally's names."""
    whole = object_in(attributes.get(METADATA))
    given = object_in(attributes.get(INPUT_DETAILS)) or part(whole, "input_token_details")
    produced = object_in(attributes.get(OUTPUT_DETAILS)) or part(whole, "output_token_details")
    return {
        "input_tokens": whole.get("input_tokens"),
        "output_tokens": whole.get("output_tokens"),
        "total_tokens": whole.get("total_tokens"),
        "cache_read_tokens": given.get("cache_read"),
        "cache_write_tokens": given.get("cache_creation"),
        "reasoning_tokens": produced.get("reasoning"),
    }
