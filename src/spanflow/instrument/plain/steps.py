"""Steps of plain Python: a block is one execution; inside a graph's node, a part of that step.

A step outside every engagement is an engagement of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, overload

from spanflow.guard import diagnose
from spanflow.instrument.endings import ending_of
from spanflow.instrument.plain.block import Block
from spanflow.instrument.plain.engagements import EngagementBlock
from spanflow.instrument.plain.targets import named

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from spanflow.capture.inside import Inside
    from spanflow.capture.runtime import Runtime
    from spanflow.capture.scope import Scope
    from spanflow.capture.step import Step
    from spanflow.instrument.plain.wrapping import FunctionT

__all__ = ["OwnBlock", "StepBlock", "step"]


class OwnBlock(Block):
    """A block that brings an engagement of its own where none is going on."""

    __slots__ = ("_engagement_id", "_own", "_step_id")

    def __init__(self, step_id: str | None = None, engagement_id: str | None = None) -> None:
        super().__init__()
        self._step_id = step_id
        self._engagement_id = engagement_id
        self._own: EngagementBlock | None = None

    def _place(self, name: str) -> Scope | None:
        """Return the scope this stands in, opening an engagement called `name` where none is."""
        from spanflow.capture import scope as scopes

        if self._step_id is not None or self._engagement_id is not None:
            return named(self.site.partition(".")[2], self._step_id, self._engagement_id)
        here = scopes.here()
        if here is None:
            self._own = EngagementBlock(None, goes_on=False, name=name)
            self._own.begin()
            return self._own.scope
        if here.turn is None or not here.turn.ended:
            return here if here.turn is not None else None
        diagnose(self.site, f"{name!r} began after its turn had ended, and is not recorded")
        return None

    def end(self, error: BaseException | None = None) -> None:
        """End the block, and the engagement that it brought."""
        super().end(error)
        own, self._own = self._own, None
        if own is not None:
            own.end(error)


class StepBlock(OwnBlock):
    """One execution of a step, as a ``with`` block.

    Attributes:
        step_id: The step's id, 16 hex digits; None where nothing is captured.
    """

    __slots__ = ("_is_global", "_name", "_step", "_tools", "step_id")

    site = "api.step"

    def __init__(
        self,
        name: str,
        tools: Sequence[str] | None = None,
        *,
        is_global: bool = False,
        step_id: str | None = None,
        engagement_id: str | None = None,
    ) -> None:
        super().__init__(step_id, engagement_id)
        self._name = name
        self._tools = tools
        self._is_global = is_global
        self._step: Step | None = None
        self.step_id: str | None = None

    def __call__(self, function: FunctionT) -> FunctionT:
        """Make each call of `function` such a step."""
        from spanflow.instrument.plain.wrapping import wrapped

        return wrapped(
            function,
            lambda: StepBlock(
                self._name,
                self._tools,
                is_global=self._is_global,
                step_id=self._step_id,
                engagement_id=self._engagement_id,
            ),
        )

    def _open(self, runtime: Runtime) -> Inside | None:  # noqa: ARG002 - the turn has its own
        from spanflow.capture import scope as scopes
        from spanflow.capture.inside import Inside
        from spanflow.capture.payload import clean
        from spanflow.instrument.metadata import names

        name = clean(self._name)
        scope = self._place(name)
        if scope is None or scope.turn is None or scope.frame is None:
            return None
        parent, frame = scope.step, scope.frame
        around = scopes.context_in(scope)
        own = (parent or frame).context
        with scope.turn.lock:
            order = scope.turn.order_below(parent)
            causes = order.begin()
            # The same for a step that is run again because its node is.
            key = f"{parent.key if parent is not None else ''}/{name}#{order.count(name)}"
        self._step = step = frame.start_step(
            name,
            key,
            parent=parent,
            causes=causes,
            tools=names(self._tools, ()),
            is_global=self._is_global,
            context=around if around is not own else None,
        )
        with scope.turn.lock:
            order.stands([(step.span_id, step.span.get_span_context(), step.path)])
        self.step_id = step.span_id
        return Inside(step.scope, step.context)

    def _close(self, error: BaseException | None) -> None:
        step, self._step = self._step, None
        if step is None:
            return
        turn = step.frame.turn
        with turn.lock:
            order = turn.orders.get(step.parent.span_id if step.parent is not None else None)
            if order is not None:
                order.end()
        ending = ending_of(error)
        if ending == "failed" and error is not None:
            step.fail_attempt("failed", error)
            step.end()
        else:
            step.end("cancelled" if ending == "left" else ending, error)

    def _tell(self, attributes: Mapping[str, Any]) -> None:
        if self._step is not None:
            self._step.tell(attributes)


@overload
def step(name: FunctionT, /) -> FunctionT: ...
@overload
def step(
    name: str,
    /,
    *,
    tools: Sequence[str] | None = None,
    is_global: bool = False,
    step_id: str | None = None,
    engagement_id: str | None = None,
) -> StepBlock: ...
def step(
    name: Any,
    /,
    *,
    tools: Sequence[str] | None = None,
    is_global: bool = False,
    step_id: str | None = None,
    engagement_id: str | None = None,
) -> Any:
    """Open a step around a block of code, or make each call of a function one.

    Outside every engagement a step is an engagement of its own; inside a graph's node it is a part
    of that node's step.

    Args:
        name: What the step is called; or the function, for ``@spanflow.step`` without arguments.
        tools: The tools that it has at hand.
        is_global: Whether it can fire from anywhere and re-route the user's intent.
        step_id: The open step it is part of, where that is not the one around it.
        engagement_id: The open engagement it belongs to, where that is not the one around it.

    Returns:
        The block, with its ``step_id``; for a function the function, as it was to its callers.

    Example:
        >>> import spanflow
        >>> with spanflow.engagement("search"):
        ...     with spanflow.step("qualify", tools=["look_up"]):
        ...         pass
        >>> @spanflow.step
        ... def rank(offers):
        ...     return sorted(offers)
        >>> rank([3, 1])
        [1, 3]
    """
    if not isinstance(name, str):
        from spanflow.instrument.plain.wrapping import is_decorated, name_of

        if is_decorated(name):
            return StepBlock(name_of(name))(name)
    return StepBlock(name, tools, is_global=is_global, step_id=step_id, engagement_id=engagement_id)
