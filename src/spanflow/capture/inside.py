"""Puts a scope in place around code and takes it away again, in whatever order blocks are left.

A block stands in one task, a generator's code while it makes a piece. This module opens and ends
nothing.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

from opentelemetry import context as otel_context
from opentelemetry.context import Context

from spanflow.capture import agents
from spanflow.capture.scope import current, is_place

if TYPE_CHECKING:
    from spanflow.capture.agents import Agent
    from spanflow.capture.scope import Scope

__all__ = ["Inside", "Lending", "Piecewise", "clear_away", "follow", "saw"]

_innermost: ContextVar[Inside | None] = ContextVar("spanflow_inside", default=None)


def follow() -> None:
    """Stand in the turn that goes on in the same block as the one that paused here, if any does."""
    scope = current.get()
    if scope is None or scope.turn is None or not scope.turn.ended:
        return
    successor = scope.turn.successor
    if successor is not None and not successor.ended:
        current.set(successor.scope)
        otel_context.attach(successor.context)  # never detached: the block around puts back both


class Inside:
    """Puts a scope and a context in place for a block of one task and takes both away again.

    Blocks need not be left in the order of nesting, nor in the context they were entered in: two
    generators may take turns, and one that is abandoned is closed elsewhere. What had to be left
    standing is taken away as soon as that can be.
    """

    __slots__ = ("_agent", "_context", "_scope", "_tokens", "around", "has_left")

    def __init__(
        self, scope: Scope | None, context: Context | None, agent: Agent | None = None
    ) -> None:
        self._scope = scope
        self._context = context
        self._agent = agent
        self.has_left = False

    def __enter__(self) -> None:
        """Put them in place."""
        self.has_left = False
        self.around = _innermost.get()
        self._tokens = (
            _innermost.set(self),
            current.set(self._scope),
            otel_context.attach(self._context) if self._context is not None else None,
            agents.current.set(self._agent) if self._agent is not None else None,
        )

    def __exit__(self, *_: object) -> None:
        """Put back what stood there."""
        self.has_left = True
        inner = _innermost.get()
        while inner is not None and inner is not self:
            if not inner.has_left:
                return
            inner = inner.around
        if self.take_away():
            clear_away()
            follow()

    def take_away(self) -> bool:
        """Put back what stood there before; False in another context than this was entered in."""
        innermost, scope, context, agent = self._tokens
        try:
            _innermost.reset(innermost)
        except (ValueError, RuntimeError):  # of another context, or taken away there
            return False  # nothing of it stands here but what a copied context brought along
        current.reset(scope)
        if context is not None:
            otel_context.detach(context)
        if agent is not None:
            agents.current.reset(agent)
        return True

    def piecewise(self) -> Piecewise:
        """Return the same for code that stops again and again and goes on."""
        context = self._context if self._context is not None else otel_context.get_current()
        return Piecewise(self._scope, context, self._agent)


class Piecewise(Inside):
    """Puts in place what a generator's own code stands in, while it makes a piece and not between.

    What its code has entered and not left yet, a block or a span, is back in place with the next
    piece.
    """

    __slots__ = ("_agent_around", "_kept")

    def __init__(self, scope: Scope | None, context: Context, agent: Agent | None = None) -> None:
        super().__init__(scope, context, agent)
        self._kept: tuple[Inside | None, Scope | None, Context, Agent | None] | None = None

    def __enter__(self) -> None:
        """Put in place what stood at the end of the piece before."""
        self._agent_around = agents.current.get()
        super().__enter__()
        kept = self._kept
        if kept is not None:
            innermost, scope, context, agent = kept
            _innermost.set(innermost)
            current.set(scope)
            otel_context.attach(context)  # never detached: the tokens of __enter__ go further back
            agents.current.set(agent)

    def __exit__(self, *_: object) -> None:
        """Put back what stood around, and remember what stands inside."""
        self._kept = (
            _innermost.get(),
            current.get(),
            otel_context.get_current(),
            agents.current.get(),
        )
        if self.take_away():
            agents.current.set(self._agent_around)


class _Lent(Context):
    """A copy of a context of ours that, unlike any other, whoever lent it can still change."""

    def becomes(self, other: Context) -> None:
        """Have from now on what another context has, wherever this one is kept."""
        values = dict[str, object]  # a context's own methods refuse to change it
        values.update(self, other)
        for key in self.keys() - other.keys():
            values.pop(self, key)


class Lending(Inside):
    """Puts a context in place that somebody may keep, and put back long after it was taken away.

    Whoever wraps what we wrap, outside of us, may attach a context inside the block and detach it
    after the block: what then stands is what was ours inside. So a copy is lent, and one that was
    kept has from the block's end on what stood around it, as if we had never been there.
    """

    __slots__ = ("_is_kept", "_own")

    def __init__(self, scope: Scope | None, context: Context) -> None:
        super().__init__(scope, _Lent(context))
        self._own = context
        self._is_kept = False

    def saw(self, standing: Context) -> None:
        """Learn what stands inside: where it is neither ours nor a step's, ours is kept by it."""
        if standing is not self._context and not is_place(standing):
            self._is_kept = True

    def take_away(self) -> bool:
        """Put back what stood there before, also for whoever does so after us."""
        self.saw(otel_context.get_current())
        if not super().take_away():
            return False
        lent = self._context
        if self._is_kept:
            lent.becomes(otel_context.get_current())
            self._context = _Lent(self._own)
            self._is_kept = False
        return True


def saw(standing: Context) -> None:
    """Learn what stands where a step begins, which the step's own context hides from then on."""
    inside = _innermost.get()
    if isinstance(inside, Lending):
        inside.saw(standing)


def clear_away() -> None:
    """Take away what blocks left standing here that were left out of order, or elsewhere."""
    inside = _innermost.get()
    while inside is not None and inside.has_left and inside.take_away():
        inside = inside.around
