"""Decorators: each call of a function is a step, a call, work of an agent, or a span.

Functions, coroutines, generators and async generators stay what they are, and so do methods of any
kind. Around each piece of a generator its block stands in place; between two pieces the consumer's
own context does.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, TypeVar, cast

from spanflow.instrument.plain import gate
from spanflow.instrument.plain.calls import LlmCallBlock, RetrievalBlock, ToolCallBlock

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["llm", "retrieval", "tool", "trace", "wrapped"]

_F = TypeVar("_F", bound="Callable[..., Any]")


def wrapped(function: _F, make: Callable[..., Any]) -> _F:
    """Return `function` with a block of its own around each call."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if gate.runtime() is None:
            return function(*args, **kwargs)
        with make(function, args, kwargs):
            return function(*args, **kwargs)

    return cast("_F", call)


def tool(name: Any, /) -> Any:
    """Make each call of a function a call of a tool."""
    return wrapped(name, lambda *_: ToolCallBlock(name.__name__))


def retrieval(name: Any, /) -> Any:
    """Make each call of a function a retrieval."""
    return wrapped(name, lambda *_: RetrievalBlock(name.__name__))


def llm(*, model: str) -> Any:
    """Make each call of a function a call to a model."""

    def decorate(function: _F) -> _F:
        return wrapped(function, lambda *_: LlmCallBlock(model))

    return decorate


def trace(name: Any, /) -> Any:
    """Make each call of a function a span."""
    from spanflow.instrument.plain.agents import TraceBlock

    return wrapped(name, lambda *_: TraceBlock(name.__name__))
