"""Whether anything is captured in this process: asked by everything that an app calls itself.

``setup`` opens and closes the gate. While it is closed nothing of capture is loaded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from spanflow.guard import report

if TYPE_CHECKING:
    from collections.abc import Callable

    from spanflow.capture.call_spans import CallSpans
    from spanflow.capture.runtime import Runtime

__all__ = ["close", "open_with", "runtime", "spans"]


class _Gate:
    """Who gives the runtime, and the call spans made for it."""

    def __init__(self) -> None:
        self.give: Callable[[], Runtime | None] | None = None
        self.spans: tuple[Runtime, CallSpans] | None = None


_gate = _Gate()


def open_with(give: Callable[[], Runtime | None]) -> None:
    """Open the gate: `give` returns the process's runtime, and makes it where there is none."""
    _gate.give = give


def close() -> None:
    """Close the gate."""
    _gate.give = _gate.spans = None


def runtime() -> Runtime | None:
    """Return the process's runtime; None where nothing is captured. It never raises."""
    give = _gate.give
    if give is None:
        return None
    try:
        return give()
    except Exception as error:  # noqa: BLE001 - the state of the file system, say
        report("api.gate", error)
        return None


def spans(served: Runtime) -> CallSpans:
    """Return what opens call spans for a runtime."""
    from spanflow.capture.call_spans import CallSpans

    known = _gate.spans
    if known is None or known[0] is not served:
        known = _gate.spans = (served, CallSpans(served))
    return known[1]
