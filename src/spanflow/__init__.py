"""Turns the runs of an AI agent into journeys: OpenTelemetry spans, and one DuckDB file to ask.

Importing this is cheap; what is heavy is imported by what needs it.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spanflow.errors import (
        ConfigurationError,
        LedgerError,
        LedgerNotFoundError,
        PauseInGraphError,
        SpanflowError,
    )
    from spanflow.extraction import ExtractionModule
    from spanflow.instrument.plain.agents import agent
    from spanflow.instrument.plain.calls import llm_call, record_llm_usage, tool_call
    from spanflow.instrument.plain.carrying import carry
    from spanflow.instrument.plain.engagements import engagement, resume
    from spanflow.instrument.plain.functions import llm, retrieval, tool, trace
    from spanflow.instrument.plain.marks import error, gave_up, goal, log
    from spanflow.instrument.plain.pauses import pause
    from spanflow.instrument.plain.steps import step
    from spanflow.query.journeys import Ledger, connect
    from spanflow.setup import configure, flush, shutdown, uninstrument

    extraction: ExtractionModule  # the module and the function in one

try:
    __version__ = version("spanflow")
except PackageNotFoundError:  # a checkout on the path, not installed
    __version__ = "0.0.0"

__all__ = [
    "ConfigurationError",
    "Ledger",
    "LedgerError",
    "LedgerNotFoundError",
    "PauseInGraphError",
    "SpanflowError",
    "agent",
    "carry",
    "configure",
    "connect",
    "engagement",
    "error",
    "extraction",
    "flush",
    "gave_up",
    "goal",
    "llm",
    "llm_call",
    "log",
    "pause",
    "record_llm_usage",
    "resume",
    "retrieval",
    "shutdown",
    "step",
    "tool",
    "tool_call",
    "trace",
    "uninstrument",
]

_HOMES = {
    "ConfigurationError": "spanflow.errors",
    "Ledger": "spanflow.query.journeys",
    "LedgerError": "spanflow.errors",
    "LedgerNotFoundError": "spanflow.errors",
    "PauseInGraphError": "spanflow.errors",
    "SpanflowError": "spanflow.errors",
    "agent": "spanflow.instrument.plain.agents",
    "carry": "spanflow.instrument.plain.carrying",
    "configure": "spanflow.setup",
    "connect": "spanflow.query.journeys",
    "engagement": "spanflow.instrument.plain.engagements",
    "error": "spanflow.instrument.plain.marks",
    "extraction": "spanflow.extraction",
    "flush": "spanflow.setup",
    "gave_up": "spanflow.instrument.plain.marks",
    "goal": "spanflow.instrument.plain.marks",
    "llm": "spanflow.instrument.plain.functions",
    "llm_call": "spanflow.instrument.plain.calls",
    "log": "spanflow.instrument.plain.marks",
    "pause": "spanflow.instrument.plain.pauses",
    "record_llm_usage": "spanflow.instrument.plain.calls",
    "resume": "spanflow.instrument.plain.engagements",
    "retrieval": "spanflow.instrument.plain.functions",
    "shutdown": "spanflow.setup",
    "step": "spanflow.instrument.plain.steps",
    "tool": "spanflow.instrument.plain.functions",
    "tool_call": "spanflow.instrument.plain.calls",
    "trace": "spanflow.instrument.plain.functions",
    "uninstrument": "spanflow.setup",
}


if not TYPE_CHECKING:  # else every misspelt name would pass for one of ours

    def __getattr__(name: str) -> Any:
        """Import a public name when it is first used."""
        home = _HOMES.get(name)
        if home is None:
            msg = f"module 'spanflow' has no attribute {name!r}"
            raise AttributeError(msg)
        value = globals()[name] = getattr(import_module(home), name)
        return value


def __dir__() -> list[str]:
    """Return the public names."""
    return [*__all__, "__version__"]
