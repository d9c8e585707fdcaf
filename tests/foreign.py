"""Spans of agents and calls as somebody else's instrumentor makes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opentelemetry import trace

if TYPE_CHECKING:
    from contextlib import AbstractContextManager


def tracer(scope: str = "their.agents") -> trace.Tracer:
    """Their tracer."""
    return trace.get_tracer(scope)


def agent(
    name: str, scope: str = "their.agents", **said: Any
) -> AbstractContextManager[trace.Span]:
    """An agent at work, as the conventions have it."""
    attributes = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": name, **said}
    return tracer(scope).start_as_current_span(f"invoke_agent {name}", attributes=attributes)


def kind(
    name: str, of: str, scope: str = "their.agents", **said: Any
) -> AbstractContextManager[trace.Span]:
    """A span of OpenInference's."""
    attributes = {"openinference.span.kind": of, **said}
    return tracer(scope).start_as_current_span(name, attributes=attributes)


def chat(given: int, produced: int, scope: str = "their.agents") -> None:
    """A call to a model."""
    attributes = {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "m",
        "gen_ai.usage.input_tokens": given,
        "gen_ai.usage.output_tokens": produced,
    }
    tracer(scope).start_span("chat m", attributes=attributes).end()
