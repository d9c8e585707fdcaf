"""A frame: one run of one graph, with its span and its open steps.

The turn is one frame, a graph that runs inside a step another. A frame opens and settles steps as
it is told to and never decides what a step is. This module knows OpenTelemetry and no framework.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from opentelemetry import trace
from opentelemetry.trace import Link, SpanKind, Status, StatusCode

from spanflow import semconv
from spanflow.capture import agents
from spanflow.capture import scope as scopes
from spanflow.capture.causes import Causes
from spanflow.capture.events import LONGEST_STATUS, told_by
from spanflow.capture.payload import clean
from spanflow.capture.runtime import span_ids
from spanflow.capture.step import Step

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opentelemetry.context import Context
    from opentelemetry.util.types import AttributeValue

    from spanflow.capture.causes import Cause
    from spanflow.capture.identity import GraphShape
    from spanflow.capture.order import Order
    from spanflow.capture.runtime import Runtime
    from spanflow.capture.turn import Turn

__all__ = ["Frame", "Nested"]


class Frame:
    """One run of one graph: its span, its open steps, and where it stands."""

    __slots__ = (
        "agent_name",
        "base",
        "bound",
        "causes",
        "context",
        "ended",
        "finished",
        "on_thread",
        "open",
        "parent_step",
        "paused",
        "runs",
        "runtime",
        "scope",
        "shape",
        "span",
        "span_id",
        "started_ns",
        "step_tools",
        "trace_id",
        "turn",
    )

    turn: Turn

    def __init__(
        self,
        runtime: Runtime,
        shape: GraphShape,
        parent_step: Step | None,
        started_ns: int | None = None,
    ) -> None:
        self.runtime = runtime
        self.shape = shape
        self.parent_step = parent_step
        self.open: dict[str, Step] = {}
        self.bound = False
        self.runs: set[Any] = set()
        self.causes = Causes()
        self.step_tools: Mapping[str, tuple[str, ...]] = {}
        self.agent_name = shape.agent or _agent_around(shape, parent_step)
        self.on_thread = False
        self.paused = False
        self.finished = False
        self.ended = False
        self.started_ns = started_ns or time.time_ns()

    def _open_span(
        self, context: Context, attributes: dict[str, AttributeValue], links: list[Link]
    ) -> None:
        self.span = self.runtime.tracer.start_span(
            f"{semconv.OPERATION_INVOKE_WORKFLOW} {self.shape.name}".rstrip(),
            context=context,
            kind=SpanKind.INTERNAL,
            attributes=attributes,
            links=links,
            start_time=self.started_ns,
        )
        self.context = trace.set_span_in_context(self.span, context)

    def path_of(self, name: str) -> str:
        """Return the path of a step of this frame's graph."""
        return f"{self.parent_step.path}/{name}" if self.parent_step is not None else name

    def tools_of(self, path: str, name: str) -> tuple[str, ...] | None:
        """Return the tools that a step has at hand, as far as its graph or the run's config says.

        Args:
            path: The step's whole path.
            name: What it is called.
        """
        if self.step_tools:
            told = self.step_tools.get(path) or self.step_tools.get(name)
            if told:
                return told
        if self.shape.tools:
            outer = self.parent_step
            own = self.shape.tools.get(path[len(outer.path) + 1 :] if outer is not None else path)
            if own:
                return own
        return self.turn.shape.tools.get(path)

    def start_step(  # noqa: PLR0913 - what a framework knows of a step, by name
        self,
        name: str,
        key: str,
        *,
        superstep: int | None = None,
        parent: Step | None = None,
        agent_name: str | None = None,
        cached: bool = False,
        causes: tuple[Cause, ...] = (),
        tools: tuple[str, ...] = (),
        is_global: bool = False,
        context: Context | None = None,
    ) -> Step:
        """Open the step that runs `name`, or take up the one that failed under the same `key`.

        Args:
            name: The node's name.
            key: What all attempts of one execution share and two executions never do.
            superstep: The framework's own counter; a later one ends steps that failed for good.
            parent: The step this one runs in, where it is not the frame's own parent.
            agent_name: The agent the framework says is at work.
            cached: The result came from a cache; nothing ran.
            causes: The steps that this one follows from.
            tools: The tools that it has at hand, where the run's metadata names none.
            is_global: It can fire from anywhere, whatever the settings say.
            context: What its span starts in, where that is not its parent's own context.
        """
        with self.turn.lock:
            again = self.open.get(key)
            if again is not None:
                again.begin_attempt()
                return again
            if superstep is not None:
                self._settle(before=superstep)
                causes = causes or self._led_to(superstep)
            step = Step(
                self,
                clean(name),
                key,
                superstep,
                parent or self.parent_step,
                agent_name=agent_name or agents.name_at((parent or self).scope),
                cached=cached,
                causes=causes,
                tools=tools,
                is_global=is_global,
                context=context,
            )
            if superstep is not None:
                self.causes.begin(step)
            self.open[key] = step
            self.turn.note_start(step)
        step.announce()
        return step

    def _led_to(self, superstep: int) -> tuple[Cause, ...]:  # noqa: ARG002 - a graph's own question
        """Return what a step follows that its own graph knows no cause of."""
        return ()

    def _settle(self, before: int | None = None) -> None:
        """End the steps whose last attempt failed and that nobody took up again."""
        for step in list(self.open.values()):
            if step.parked and (before is None or (step.superstep or 0) < before):
                step.end()

    def _close_steps(self, status: str, error: BaseException | None) -> None:
        for step in self.open.values():
            step.add_up()  # whichever of them ends first
        self._settle()
        for step in list(self.open.values()):
            step.end(status, error if status == "failed" else None)


class Nested(Frame):
    """A graph that runs inside a step: a span of its own, no new turn."""

    __slots__ = ("_first", "_follows", "_is_outermost", "_order", "_thread")

    def __init__(
        self,
        runtime: Runtime,
        shape: GraphShape,
        where: scopes.Scope,
        thread: str | None = None,
        *,
        step_tools: Mapping[str, tuple[str, ...]] | None = None,
    ) -> None:
        turn, step = where.turn, where.step
        if turn is None or where.frame is None:
            msg = "a nested graph needs a live turn"
            raise ValueError(msg)
        super().__init__(runtime, shape, step)
        self.turn = turn
        self.on_thread = thread is not None or turn.on_thread
        self.step_tools = step_tools or where.frame.step_tools
        # A graph inside another one's node pauses with it.
        self._thread = thread
        self._is_outermost = where.frame is turn
        if self._is_outermost:
            turn.goes_on(thread)
        # In plain code a graph follows what came before it, as a step would.
        self._order: Order | None = None
        self._follows: tuple[Cause, ...] = ()
        self._first: int | None = None
        with turn.lock:
            turn.nested += 1
            if step is not None:
                step.inner += 1
            if turn.is_plain or turn.orders:
                self._order = turn.order_below(step)
                self._follows = self._order.begin()
        outer = step or where.frame
        attributes: dict[str, AttributeValue] = {
            **turn.identity_attributes,
            semconv.GEN_AI_OPERATION_NAME: semconv.OPERATION_INVOKE_WORKFLOW,
            semconv.GEN_AI_WORKFLOW_NAME: shape.name,
        }
        if shape.version is not None:
            attributes[semconv.GRAPH_VERSION] = shape.version
        if step is not None:
            attributes[semconv.STEP_ID] = step.span_id
        context = scopes.nearest(where, outer.context)
        self._open_span(context, attributes, [])
        self.trace_id, self.span_id = span_ids(self.span, turn.trace_id)
        self.scope = scopes.Scope(turn, self, step)
        self.context = scopes.within(self.scope, self.context)
        self.base = {
            **turn.identity_fields,
            "kind": "workflow",
            "trace_id": self.trace_id,
            "span_id": self.span_id,
            "parent_span_id": outer.span_id if context is outer.context else _span_id(context),
            "step_id": step.span_id if step is not None else None,
            "name": shape.name,
            "graph_version": shape.version,
            "started_ns": self.started_ns,
        }
        turn.know(shape)
        runtime.record({**self.base, "phase": "start"})

    def close(self, outcome: str, error: BaseException | None = None) -> None:
        """End the nested graph's span with the outcome of its run."""
        with self.turn.lock:
            if self.ended:
                return
            self.ended = True
            self._close_steps("cancelled", None)
            if self._order is not None:
                self._order.stands(self.causes.last())
                self._order.end()
            self.turn.nested -= 1
            around = self.parent_step
            while around is not None and around.is_over:
                around = around.parent
            if around is not None:
                around.inner -= 1
            if outcome == "paused" and self._is_outermost:
                self.turn.waits_inside(self._thread)
        ended_ns = time.time_ns()
        fields: dict[str, Any] = {"phase": "end", "ended_ns": ended_ns, "status": outcome}
        self.span.set_attribute(semconv.TURN_OUTCOME, outcome)
        if error is not None and outcome == "failed":
            kind, text = told_by(error, self.runtime.payload_bytes)
            fields["error_type"], fields["error_message"] = kind, text or None
            self.span.set_attribute(semconv.ERROR_TYPE, kind)
            self.span.set_status(Status(StatusCode.ERROR, text[:LONGEST_STATUS]))
        self.span.end(ended_ns)
        self.runtime.record({**self.base, **fields})

    def _led_to(self, superstep: int) -> tuple[Cause, ...]:
        if self._first is None:
            self._first = superstep
        return self._follows if superstep == self._first else ()


def _agent_around(shape: GraphShape, step: Step | None) -> str | None:
    """Return the agent at work in a graph that is none for certain.

    A graph that holds a conversation and whose own name is its node's is one, as in a swarm; any
    other works for the agent around it.
    """
    if step is None:
        return None
    if shape.converses and shape.name == step.path.rpartition("/")[2]:
        return shape.name
    return agents.name_at(step.scope)


def _span_id(context: Context) -> str:
    return f"{trace.get_current_span(context).get_span_context().span_id:016x}"
