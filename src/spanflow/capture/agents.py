"""Which agent is at work, where an app says so itself: the innermost one of the running code.

It is carried like the scope: in a ``ContextVar``, and in the OpenTelemetry context for code that is
handed nothing else. This module opens and writes nothing.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, NamedTuple

from opentelemetry.context import create_key, get_value, set_value

if TYPE_CHECKING:
    from opentelemetry.context import Context

    from spanflow.capture.scope import Scope

__all__ = ["Agent", "around", "current", "name_at", "within"]

_HANDED_ON = create_key("spanflow-agent")


class Agent(NamedTuple):
    """An agent that an app named."""

    name: str
    step_id: str | None
    """The step in which it went to work."""


current: ContextVar[Agent | None] = ContextVar("spanflow_agent", default=None)


def within(agent: Agent, context: Context) -> Context:
    """Return `context` with `agent` in it, for whoever is handed nothing else."""
    return set_value(_HANDED_ON, agent, context)


def around() -> Agent | None:
    """Return the agent that the running code works for, as far as an app named one."""
    agent = current.get()
    if agent is None:
        found = get_value(_HANDED_ON)
        agent = found if isinstance(found, Agent) else None
    return agent


def name_at(scope: Scope | None) -> str | None:
    """Return the agent at work at a place: the one named inside its step, else the step's own."""
    agent = around()
    step = scope.step if scope is not None else None
    if step is None:
        return agent.name if agent is not None else None
    if agent is not None and agent.step_id == step.span_id:
        return agent.name
    return step.agent_name
