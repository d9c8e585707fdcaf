"""Blocks that are spans of our own, and the traced block, which is nothing more than that.

They are no turns, steps or calls, and are counted nowhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from spanflow.instrument.plain.block import Block

if TYPE_CHECKING:
    from collections.abc import Mapping

    from spanflow.capture.inside import Inside
    from spanflow.capture.runtime import Runtime
    from spanflow.instrument.plain.spans import OpenSpan

__all__ = ["SpanBlock", "TraceBlock"]


class SpanBlock(Block):
    """A block that is one span of ours while it is open."""

    __slots__ = ()  # those that open the span have a place for it

    _span: OpenSpan | None

    def _close(self, error: BaseException | None) -> None:
        span, self._span = self._span, None
        if span is not None:
            span.end(error)

    def _tell(self, attributes: Mapping[str, Any]) -> None:
        if self._span is not None:
            self._span.tell(attributes)


class TraceBlock(SpanBlock):
    """A piece of code that is a span and nothing more, as a ``with`` block."""

    __slots__ = ("_name", "_span")

    site = "api.trace"

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name
        self._span: OpenSpan | None = None

    def _open(self, runtime: Runtime) -> Inside | None:
        from opentelemetry import context as otel_context
        from opentelemetry import trace

        from spanflow.capture import scope as scopes
        from spanflow.capture.inside import Inside
        from spanflow.capture.payload import clean
        from spanflow.instrument.plain.spans import OpenSpan

        current = scopes.current.get()
        if current is scopes.OFF:
            return None
        scope = scopes.standing()
        around = scopes.context_in(scope) if scope is not None else otel_context.get_current()
        self._span = OpenSpan(runtime, scope, around, clean(self._name), {}, {})
        context = trace.set_span_in_context(self._span.span, around)
        return Inside(scope or current, context)
