"""How a piece of an agent's work ended, told by the type of what was raised and never by text.

LangGraph's control flow is known by its classes where LangGraph is loaded; it is never imported.
"""

from __future__ import annotations

import sys
from typing import Final, Literal

__all__ = ["Ending", "ending_of", "status_of"]

Ending = Literal["completed", "failed", "waiting", "cancelled", "left"]
_OF_CALLS: Final = {"completed": "ok", "failed": "error", "left": "cancelled"}


def ending_of(error: BaseException | None) -> Ending:
    """Return how something ended that was left with `error`."""
    if error is None:
        return "completed"
    if isinstance(error, GeneratorExit):
        return "left"
    errors = sys.modules.get("langgraph.errors")
    if errors is not None and isinstance(error, errors.GraphBubbleUp):
        return "waiting" if isinstance(error, errors.GraphInterrupt) else "completed"
    import asyncio  # noqa: PLC0415 - only where something was raised

    stopped = isinstance(error, asyncio.CancelledError | KeyboardInterrupt | SystemExit)
    return "cancelled" if stopped else "failed"


def status_of(error: BaseException | None) -> str:
    """Return the same as the status of a call: ``ok``, ``error``, ``waiting`` or ``cancelled``."""
    ending = ending_of(error)
    return _OF_CALLS.get(ending, ending)
