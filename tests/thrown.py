"""What tests of generators look at and throw in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opentelemetry import trace

from spanflow.capture import agents
from spanflow.capture import scope as scopes

if TYPE_CHECKING:
    from conftest import Flow


class Mine(Exception):  # noqa: N818 - thrown in
    """What a test throws in."""


def standing() -> Any:
    """What stands here: the scope, the agent and the span."""
    return scopes.current.get(), agents.around(), trace.get_current_span()


def statuses(flow: Flow) -> list[str]:
    return [status for _, status in flow.steps()]
