"""Turns the runs of an AI agent into journeys: OpenTelemetry spans, and one DuckDB file to ask.

Importing this is cheap; what is heavy is imported by what needs it.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spanflow.capture.marks import gave_up
    from spanflow.errors import (
        ConfigurationError,
        LedgerError,
        LedgerNotFoundError,
        SpanflowError,
    )
    from spanflow.query.journeys import Ledger, connect
    from spanflow.setup import configure, flush, shutdown, uninstrument

try:
    __version__ = version("spanflow")
except PackageNotFoundError:  # a checkout on the path, not installed
    __version__ = "0.0.0"

__all__ = [
    "ConfigurationError",
    "Ledger",
    "LedgerError",
    "LedgerNotFoundError",
    "SpanflowError",
    "configure",
    "connect",
    "flush",
    "gave_up",
    "shutdown",
    "uninstrument",
]

_HOMES = {
    "ConfigurationError": "spanflow.errors",
    "Ledger": "spanflow.query.journeys",
    "LedgerError": "spanflow.errors",
    "LedgerNotFoundError": "spanflow.errors",
    "SpanflowError": "spanflow.errors",
    "configure": "spanflow.setup",
    "connect": "spanflow.query.journeys",
    "flush": "spanflow.setup",
    "gave_up": "spanflow.capture.marks",
    "shutdown": "spanflow.setup",
    "uninstrument": "spanflow.setup",
}


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
