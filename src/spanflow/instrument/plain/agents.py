"""Agents that an app names: what runs inside a block works for them.

Outside every engagement an agent is an engagement of its own. It is a span and no step: where the
user is in the journey is for steps to say.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, overload

from spanflow.instrument.plain.steps import OwnBlock
from spanflow.instrument.plain.traces import SpanBlock

if TYPE_CHECKING:
    from spanflow.capture.inside import Inside
    from spanflow.capture.runtime import Runtime
    from spanflow.instrument.plain.spans import OpenSpan
    from spanflow.instrument.plain.wrapping import FunctionT

__all__ = ["AgentBlock", "agent"]


class AgentBlock(SpanBlock, OwnBlock):
    """An agent at work, as a ``with`` block.

    Attributes:
        name: The agent.
        parent: The agent around it; None where there is none.
    """

    __slots__ = ("_role", "_span", "name", "parent")

    site = "api.agent"

    def __init__(self, name: str, role: str | None = None) -> None:
        super().__init__()
        self.name = name
        self.parent: str | None = None
        self._role = role
        self._span: OpenSpan | None = None

    def __call__(self, function: FunctionT) -> FunctionT:
        """Make each call of `function` work of this agent."""
        from spanflow.instrument.plain.wrapping import wrapped

        return wrapped(function, lambda: AgentBlock(self.name, self._role))

    def _open(self, runtime: Runtime) -> Inside | None:
        from opentelemetry import trace

        from spanflow import semconv
        from spanflow.capture import agents
        from spanflow.capture import scope as scopes
        from spanflow.capture.inside import Inside
        from spanflow.capture.payload import clean
        from spanflow.instrument.plain.spans import OpenSpan

        name = clean(self.name)
        scope = self._place(name)
        if scope is None or scope.turn is None:
            return None
        self.parent = agents.name_at(scope)
        told = {
            semconv.GEN_AI_OPERATION_NAME: semconv.OPERATION_INVOKE_AGENT,
            semconv.GEN_AI_AGENT_NAME: name,
            semconv.AGENT_ROLE: clean(self._role) if self._role is not None else None,
            semconv.AGENT_PARENT: self.parent,
        }
        kept = {key: value for key, value in told.items() if value is not None}
        around = scopes.context_in(scope)
        title = f"{semconv.OPERATION_INVOKE_AGENT} {name}"
        self._span = OpenSpan(runtime, scope, around, title, kept, {"agent_name": name})
        agent = agents.Agent(name, scope.step.span_id if scope.step is not None else None)
        context = trace.set_span_in_context(self._span.span, agents.within(agent, around))
        return Inside(scope, context, agent)


@overload
def agent(name: FunctionT, /) -> FunctionT: ...
@overload
def agent(name: str, /, role: str | None = None) -> AgentBlock: ...
def agent(name: Any, /, role: str | None = None) -> Any:
    """Name the agent that is at work in a block of code, or in each call of a function.

    Its name stands as ``gen_ai.agent.name`` on the steps and calls inside, and on others' spans.
    Agents inside agents know the one around them; those that run side by side never mix. Outside
    every engagement an agent is an engagement of its own.

    Args:
        name: The agent; or the function, for ``@spanflow.agent`` without arguments.
        role: What it is there for.

    Returns:
        The block, with its ``name`` and its ``parent``; for a function the function, as it was to
        its callers.

    Example:
        >>> import spanflow
        >>> with spanflow.engagement("trip"):
        ...     with spanflow.agent("planner", role="planner"):
        ...         with spanflow.agent("researcher") as inner:
        ...             pass
        >>> inner.name
        'researcher'
    """
    if not isinstance(name, str):
        from spanflow.instrument.plain.wrapping import is_decorated, name_of

        if is_decorated(name):
            return AgentBlock(name_of(name))(name)
    return AgentBlock(name, role)
