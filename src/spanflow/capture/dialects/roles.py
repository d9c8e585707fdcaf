"""Which spans stand for an agent at work or for a workflow of agents, in every dialect.

It is asked as a span starts: what is said later comes too late, but for a name. A chain is read as
a workflow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from spanflow import semconv
from spanflow.capture.dialects import names

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Role", "called", "role_of", "told_name"]

Role = Literal["agent", "workflow"]

_KINDS: Final[dict[str, Role]] = {"agent": "agent", "chain": "workflow"}
_OPERATIONS: Final[dict[str, Role]] = {
    semconv.OPERATION_INVOKE_AGENT: "agent",
    semconv.OPERATION_INVOKE_WORKFLOW: "workflow",
}
_NAMES: Final[dict[Role, tuple[str, ...]]] = {
    "agent": names.AGENT_NAME,
    "workflow": (semconv.GEN_AI_WORKFLOW_NAME, *names.AGENT_NAME),
}
_METHODS: Final = (".kickoff", "._execute_core")
"""What CrewAI's instrumentor puts behind the name of a crew, a flow or an agent."""


def role_of(name: str, attributes: Mapping[str, object]) -> Role | None:
    """Return what a span that starts stands for; None for neither an agent nor a workflow.

    The first that is said decides, as for calls: OpenInference's kind, the conventions' operation,
    and where neither is said yet, the name that the conventions give such a span.
    """
    kind = attributes.get(semconv.OPENINFERENCE_KIND)
    if kind is not None:
        return _KINDS.get(kind.lower()) if isinstance(kind, str) else None
    operation = attributes.get(semconv.GEN_AI_OPERATION_NAME)
    if operation is not None:
        return _OPERATIONS.get(operation) if isinstance(operation, str) else None
    prefix, space, _ = name.partition(" ")
    return _OPERATIONS.get(prefix) if space else None


def told_name(role: Role, attributes: Mapping[str, object]) -> str | None:
    """Return the name that a span's attributes tell, if they tell one."""
    for key in _NAMES[role]:
        said = attributes.get(key)
        if isinstance(said, str) and said.strip():
            return said.strip()
    return None


def called(role: Role, name: str, attributes: Mapping[str, object]) -> str:
    """Return the name of the agent or the workflow that a span stands for."""
    said = told_name(role, attributes)
    if said is not None:
        return said
    for operation in _OPERATIONS:
        name = name.removeprefix(f"{operation} ")
    if semconv.OPENINFERENCE_KIND in attributes:
        for method in _METHODS:
            name = name.removesuffix(method)
    return name.strip() or role
