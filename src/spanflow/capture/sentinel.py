"""Wakes capture at the first span of an agent or of a model's or tool's call, whoever makes it.

It stands in the tracer provider from the moment that capture is on. It loads nothing and opens
nothing before there is such a span; from then on it only hands on what it hears.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from opentelemetry import trace
from opentelemetry.sdk.trace import SpanProcessor

from spanflow import semconv
from spanflow.guard import report

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import ReadableSpan, Span

__all__ = ["Sentinel", "of", "post", "withdraw"]

_PREFIXES = (f"{semconv.OPERATION_INVOKE_AGENT} ", f"{semconv.OPERATION_INVOKE_WORKFLOW} ")


class Sentinel(SpanProcessor):
    """Hands spans on to the processor that listens, and calls for one where it is time."""

    def __init__(self) -> None:
        self.listener: SpanProcessor | None = None
        self.wake: Callable[[], object] | None = None
        self._waking = threading.RLock()

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Hand a span on that starts; wake capture where it is the first that matters."""
        if self.wake is not None and _matters(span):
            self._call()
        if self.listener is not None:
            self.listener.on_start(span, parent_context)

    def on_end(self, span: ReadableSpan) -> None:
        """Hand an ended span on."""
        if self.listener is not None:
            self.listener.on_end(span)

    def shutdown(self) -> None:
        """Do nothing: nothing is held here."""

    def force_flush(self, timeout_millis: int = 30_000) -> bool:  # noqa: ARG002 - the interface's
        """Do nothing: nothing is held here."""
        return True

    def _call(self) -> None:
        # Whoever comes meanwhile waits: its span must not be missed.
        with self._waking:
            try:
                if self.wake is not None:
                    self.wake()
            except Exception as error:  # noqa: BLE001 - exceptions in processors reach the application
                report("sentinel.wake", error)
            finally:
                self.wake = None


_posting = threading.Lock()
_posted: list[tuple[object, Sentinel]] = []


def post(wake: Callable[[], object]) -> None:
    """Let a sentinel in the global tracer provider call `wake` when it is time.

    Where the provider takes no processors there is nobody to wake.
    """
    provider = trace.get_tracer_provider()
    with _posting:
        sentinel = of(provider)
        if sentinel is not None:
            sentinel.wake = wake
            return
        add = getattr(provider, "add_span_processor", None)
        if not callable(add):
            return
        sentinel = Sentinel()
        sentinel.wake = wake
        add(sentinel)
        _posted.append((provider, sentinel))


def withdraw() -> None:
    """Let no sentinel wake anybody any more."""
    for _, sentinel in _posted:
        sentinel.wake = None


def of(provider: object) -> Sentinel | None:
    """Return the sentinel that stands in a tracer provider."""
    return next((sentinel for owner, sentinel in _posted if owner is provider), None)


def _matters(span: Span) -> bool:
    attributes = span.attributes
    if attributes and (
        semconv.GEN_AI_OPERATION_NAME in attributes or semconv.OPENINFERENCE_KIND in attributes
    ):
        return True
    return span.name.startswith(_PREFIXES)
