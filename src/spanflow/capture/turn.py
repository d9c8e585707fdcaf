"""A turn, and the graphs nested in it: opening, closing, outcome, and what is written of them.

A *frame* is one run of one graph: the turn itself, or a graph that runs inside a step. This module knows OpenTelemetry
and no framework; it never decides what a step is.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.trace import Link, SpanKind, Status, StatusCode

from spanflow import semconv
from spanflow.capture import scope as scopes
from spanflow.capture.events import Event, Events, error_event, error_text
from spanflow.capture.payload import clean
from spanflow.capture.runtime import span_ids
from spanflow.capture.step import Step
from spanflow.capture.usage import CallLog, usage_attributes
from spanflow.tally import Totals

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from opentelemetry.context import Context
    from opentelemetry.util.types import AttributeValue

    from spanflow.capture.runtime import Runtime

__all__ = ["Frame", "GraphShape", "Identity", "Turn"]


@dataclass(frozen=True, slots=True)
class GraphShape:
    """What is known of a graph before it runs."""

    version: str
    """Sixteen hex digits of the topology."""
    name: str
    """The graph's own name, or ``graph-`` and eight digits of its version."""
    nodes: tuple[Mapping[str, Any], ...] = ()
    edges: tuple[Mapping[str, Any], ...] = ()
    paths: tuple[str, ...] = ()
    """Full paths of all steps, subgraphs included."""
    tools: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, "tuple[str, ...]"])
    """Tools by step path, where a step is a tool node."""

    def resolve(self, names: Sequence[str]) -> dict[str, str]:
        """Map the paths of this graph that `names` mean (a path, or an unambiguous last segment) to the name."""
        found: dict[str, str] = {}
        for name in names:
            if name in self.paths:
                found[name] = name
                continue
            tails = [path for path in self.paths if path.rpartition("/")[2] == name]
            if len(tails) == 1:
                found[tails[0]] = name
        return found


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose turn this is and what was said about it."""

    engagement_id: str
    name: str
    kind: str
    on_thread: bool = False
    conversation_id: str | None = None
    user_id: str | None = None
    session_id: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict[str, Any])
    goals: tuple[str, ...] = ()
    global_steps: tuple[str, ...] = ()
    step_tools: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, "tuple[str, ...]"])
    previous: trace.SpanContext | None = None


class Frame:
    """One run of one graph: its span, its open steps, and where it stands."""

    __slots__ = (
        "base",
        "bound",
        "context",
        "ended",
        "open",
        "parent_step",
        "runs",
        "runtime",
        "scope",
        "shape",
        "span",
        "span_id",
        "started_ns",
        "trace_id",
        "turn",
    )

    turn: Turn

    def __init__(self, runtime: Runtime, shape: GraphShape, parent_step: Step | None) -> None:
        self.runtime = runtime
        self.shape = shape
        self.parent_step = parent_step
        self.open: dict[str, Step] = {}
        self.bound = False
        self.runs: set[Any] = set()
        self.ended = False
        self.started_ns = time.time_ns()

    def _open_span(
        self, context: Context, attributes: dict[str, AttributeValue], links: list[Link]
    ) -> None:
        self.span = self.runtime.tracer.start_span(
            f"{semconv.OPERATION_INVOKE_WORKFLOW} {self.shape.name}",
            context=context,
            kind=SpanKind.INTERNAL,
            attributes=attributes,
            links=links,
            start_time=self.started_ns,
        )
        self.context = trace.set_span_in_context(self.span, context)

    def start_step(  # noqa: PLR0913 - what a framework knows of a step, by name
        self,
        name: str,
        key: str,
        *,
        superstep: int | None = None,
        parent: Step | None = None,
        agent_name: str | None = None,
        cached: bool = False,
    ) -> Step:
        """Open the step that runs `name`, or take up the one whose attempt failed under the same `key`.

        Args:
            name: The node's name.
            key: What all attempts of one execution share and two executions never do.
            superstep: The framework's own counter; a later one ends steps that failed for good.
            parent: The step this one runs in, where it is not the frame's own parent.
            agent_name: The agent the framework says is at work.
            cached: The result came from a cache; nothing ran.
        """
        with self.turn.lock:
            again = self.open.get(key)
            if again is not None:
                again.begin_attempt()
                return again
            if superstep is not None:
                self._settle(before=superstep)
            step = Step(
                self,
                clean(name),
                key,
                superstep,
                parent or self.parent_step,
                agent_name,
                cached=cached,
            )
            self.open[key] = step
            self.turn.note_start(step)
        step.announce()
        return step

    def _settle(self, before: int | None = None) -> None:
        """End the steps whose last attempt failed and that nobody took up again."""
        for step in list(self.open.values()):
            if step.parked and (before is None or (step.superstep or 0) < before):
                step.end()

    def _close_steps(self, status: str, error: BaseException | None) -> None:
        self._settle()
        for step in list(self.open.values()):
            step.end(status, error if status == "failed" else None)


class Nested(Frame):
    """A graph that runs inside a step: a span of its own, no new turn."""

    __slots__ = ()

    def __init__(self, runtime: Runtime, shape: GraphShape, where: scopes.Scope) -> None:
        turn, step = where.turn, where.step
        if turn is None or where.frame is None:
            msg = "a nested graph needs a live turn"
            raise ValueError(msg)
        super().__init__(runtime, shape, step)
        self.turn = turn
        outer = step or where.frame
        attributes: dict[str, AttributeValue] = {
            **turn.identity_attributes,
            semconv.GEN_AI_OPERATION_NAME: semconv.OPERATION_INVOKE_WORKFLOW,
            semconv.GEN_AI_WORKFLOW_NAME: shape.name,
            semconv.GRAPH_VERSION: shape.version,
        }
        if step is not None:
            attributes[semconv.STEP_ID] = step.span_id
        self._open_span(outer.context, attributes, [])
        self.trace_id, self.span_id = span_ids(self.span, turn.trace_id)
        self.scope = scopes.Scope(turn, self, step)
        self.base = {
            **turn.identity_fields,
            "kind": "workflow",
            "trace_id": self.trace_id,
            "span_id": self.span_id,
            "parent_span_id": outer.span_id,
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
        ended_ns = time.time_ns()
        fields: dict[str, Any] = {"phase": "end", "ended_ns": ended_ns, "status": outcome}
        self.span.set_attribute(semconv.TURN_OUTCOME, outcome)
        if error is not None and outcome == "failed":
            fields["error_type"] = type(error).__name__
            fields["error_message"] = clean(error_text(error), self.runtime.payload_bytes)
            self.span.set_attribute(semconv.ERROR_TYPE, type(error).__name__)
            self.span.set_status(Status(StatusCode.ERROR, clean(error_text(error))))
        self.span.end(ended_ns)
        self.runtime.record({**self.base, **fields})


class Turn(Frame):
    """One run of the agent inside an engagement: the root of what is written of it."""

    __slots__ = (
        "calls",
        "declared",
        "events",
        "failed",
        "global_steps",
        "goal_paths",
        "goals",
        "goals_reached",
        "identity",
        "identity_attributes",
        "identity_fields",
        "last_started",
        "lock",
        "paused",
        "totals",
        "visits",
        "waiting",
    )

    def __init__(self, runtime: Runtime, shape: GraphShape, identity: Identity) -> None:
        super().__init__(runtime, shape, None)
        self.turn = self
        self.lock = threading.RLock()
        self.identity = identity
        self.goal_paths = shape.resolve(identity.goals)
        self.goals = [name for name in identity.goals if name in self.goal_paths.values()]
        self.global_steps = shape.resolve(identity.global_steps)
        self.goals_reached: list[str] = []
        self.visits: Counter[str] = Counter()
        self.calls = CallLog()
        self.totals = Totals()
        self.events = Events()
        self.failed: tuple[int, str] | None = None
        self.waiting: str | None = None
        self.last_started: str | None = None
        self.paused = False
        context, links = _surroundings(identity.previous)
        self.identity_attributes: dict[str, AttributeValue] = {
            semconv.ENGAGEMENT_ID: identity.engagement_id
        }
        self._open_span(context, self._start_attributes(), links)
        parent = trace.get_current_span(context).get_span_context()
        self.trace_id, self.span_id = span_ids(
            self.span, f"{parent.trace_id:032x}" if parent.is_valid else None
        )
        self.identity_attributes[semconv.TURN_ID] = self.span_id
        self.span.set_attribute(semconv.TURN_ID, self.span_id)
        self.scope = scopes.Scope(self, self, None)
        self.identity_fields: dict[str, Any] = {
            "source": "capture",
            "engagement_id": identity.engagement_id,
            "turn_id": self.span_id,
            "scope": "spanflow",
        }
        self.base = {
            **self.identity_fields,
            "kind": "turn",
            "trace_id": self.trace_id,
            "span_id": self.span_id,
            "parent_span_id": f"{parent.span_id:016x}" if parent.is_valid else None,
            "name": identity.name,
            "turn_kind": identity.kind,
            "graph_version": shape.version,
            "on_thread": identity.on_thread,
            "conversation_id": identity.conversation_id,
            "user_id": identity.user_id,
            "session_id": identity.session_id,
            "metadata": identity.metadata or None,
            "service_name": runtime.service_name,
            "started_ns": self.started_ns,
            "links": [
                {"trace_id": f"{c.trace_id:032x}", "span_id": f"{c.span_id:016x}"}
                for c in (link.context for link in links)
            ],
        }
        scopes.places[self.span_id] = self.scope
        self.know(shape)
        runtime.record({**self.base, "phase": "start", "goals": self.goals or None})

    def _start_attributes(self) -> dict[str, AttributeValue]:
        who = self.identity
        attributes: dict[str, AttributeValue | None] = {
            **self.identity_attributes,
            semconv.GEN_AI_OPERATION_NAME: semconv.OPERATION_INVOKE_WORKFLOW,
            semconv.GEN_AI_WORKFLOW_NAME: self.shape.name,
            semconv.GEN_AI_CONVERSATION_ID: who.conversation_id,
            semconv.USER_ID: who.user_id,
            semconv.SESSION_ID: who.session_id,
            semconv.ENGAGEMENT_NAME: who.name,
            semconv.ENGAGEMENT_METADATA: _whole_json(who.metadata),
            semconv.TURN_KIND: who.kind,
            semconv.TURN_ON_THREAD: who.on_thread,
            semconv.TURN_GOALS: self.goals or None,
            semconv.GRAPH_VERSION: self.shape.version,
        }
        return {key: value for key, value in attributes.items() if value is not None}

    def know(self, shape: GraphShape) -> None:
        """Write the topology of `shape` to the journal, once a process and journal."""
        journal = self.runtime.journal
        if journal is None or shape.version in self.runtime.known_graphs:
            return
        self.runtime.known_graphs.add(shape.version)
        self.runtime.record(
            {
                "source": "capture",
                "kind": "graph",
                "graph_version": shape.version,
                "name": shape.name,
                "nodes": shape.nodes,
                "edges": shape.edges,
            }
        )

    def note_start(self, step: Step) -> None:
        """Take a new step into account: visits, the last step started, a switch of intent."""
        if step.is_global:
            self.add_event(
                Event(
                    "intent_switch",
                    "intent_switch",
                    step.started_ns,
                    {"from": self.last_started, "to": step.path},
                )
            )
        self.last_started = step.path

    def note_end(self, step: Step) -> None:
        """Take an ended step into account: goals reached, where it failed, where it waits."""
        if step.status == "completed" and step.goal is not None:
            if step.goal not in self.goals:
                self.goals.append(step.goal)
            if step.goal not in self.goals_reached:
                self.goals_reached.append(step.goal)
            self.add_event(Event("goal", step.goal, step.ended_ns, {"step": step.path}))
        elif step.status == "failed":
            mark = (step.path.count("/"), step.path)
            if (
                self.failed is None
                or mark[0] > self.failed[0]
                or (mark[0] == self.failed[0] and mark < self.failed)
            ):
                self.failed = mark
        elif step.status == "waiting" and (
            self.waiting is None or step.path.startswith(self.waiting)
        ):
            self.waiting = step.path

    def add_event(self, event: Event) -> None:
        """Put an event on the turn's span and into its record."""
        if self.events.add(event):
            event.write(self.span)

    def close(self, outcome: str, error: BaseException | None = None) -> None:
        """End the turn: its open steps, its totals, its outcome.

        Args:
            outcome: ``completed``, ``paused``, ``failed``, ``cancelled`` or ``left``.
            error: What made it fail, where it failed.
        """
        with self.lock:
            if self.ended:
                return
            self._close_steps("cancelled", None)
            self.ended = True
        ended_ns = time.time_ns()
        self.calls.settle(self.totals)
        fields: dict[str, Any] = {"phase": "end", "ended_ns": ended_ns, "status": outcome}
        if outcome == "failed" and error is not None:
            if self.failed is None:
                self.add_event(error_event(error, ended_ns, self.runtime.payload_bytes))
            fields["error_type"] = type(error).__name__
            fields["error_message"] = clean(error_text(error), self.runtime.payload_bytes)
            self.span.set_attribute(semconv.ERROR_TYPE, type(error).__name__)
            self.span.set_status(Status(StatusCode.ERROR, clean(error_text(error))))
        self.span.set_attributes(self._end_attributes(outcome))
        self.span.end(ended_ns)
        scopes.places.pop(self.span_id, None)
        self.runtime.record(
            {
                **self.base,
                **fields,
                "goals": self.goals or None,
                "events": self.events.as_records(),
            }
        )

    def _end_attributes(self, outcome: str) -> dict[str, AttributeValue]:
        status, dropped_at = self._preview(outcome)
        attributes: dict[str, AttributeValue] = {
            semconv.TURN_OUTCOME: outcome,
            semconv.ENGAGEMENT_STATUS: status,
        }
        if self.goals:
            attributes[semconv.TURN_GOALS] = self.goals
            attributes[semconv.TURN_GOALS_REACHED] = self.goals_reached
        if dropped_at is not None:
            attributes[semconv.TURN_DROPPED_AT] = dropped_at
        return attributes | usage_attributes(self.totals)

    def _preview(self, outcome: str) -> tuple[str, str | None]:
        """Return the engagement's status and drop-off as far as this turn alone can tell; SQL tells the rest."""
        where = self.failed[1] if self.failed else self.waiting or self.last_started
        if self.goals_reached:
            return "completed", None
        if outcome == "paused":
            return "paused", None
        if outcome == "failed":
            return "failed", where
        if self.goals or outcome in ("cancelled", "left"):
            return ("active", None) if self.identity.on_thread else ("abandoned", where)
        return "completed", None


def _surroundings(previous: trace.SpanContext | None) -> tuple[Context, list[Link]]:
    """Return the context a turn starts in, and its links.

    A turn started inside the user's span is its child. One started by a task that outlived an earlier turn of ours
    stands alone, and is linked to what started it.
    """
    context = otel_context.get_current()
    links: list[Link] = []
    if previous is not None:
        links.append(Link(previous, {semconv.LINK_KIND: "previous_turn"}))
    scope = scopes.current.get()
    if scope is not None and scope.turn is not None and scope.turn.ended:
        around = trace.get_current_span(context).get_span_context()
        if around.is_valid and f"{around.trace_id:032x}" == scope.turn.trace_id:
            links.append(Link(around, {semconv.LINK_KIND: "started_by"}))
            context = trace.set_span_in_context(trace.INVALID_SPAN, context)
    return context, links


def _whole_json(metadata: Mapping[str, Any]) -> str | None:
    """Return `metadata` as JSON if it is short enough for every back end to keep it whole."""
    if not metadata:
        return None
    import orjson  # noqa: PLC0415 - only turns that carry metadata pay for it

    text = orjson.dumps(metadata).decode()
    return text if len(text.encode()) <= 2_048 else None
