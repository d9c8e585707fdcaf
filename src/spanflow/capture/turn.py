"""A turn: the root frame of one run of the agent; its goals, outcome, and what is written of it.

This module knows OpenTelemetry and no framework; what happens in the graph it is told.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from typing import TYPE_CHECKING, Any

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.trace import Link, Status, StatusCode

from spanflow import semconv
from spanflow.capture import carried
from spanflow.capture import scope as scopes
from spanflow.capture.events import LONGEST_STATUS, Event, Events, error_event, told_by
from spanflow.capture.frame import Frame
from spanflow.capture.order import Order
from spanflow.capture.payload import fitted
from spanflow.capture.runtime import span_ids
from spanflow.capture.usage import CallLog, usage_attributes
from spanflow.spending import Totals

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opentelemetry.context import Context
    from opentelemetry.util.types import AttributeValue

    from spanflow.capture.identity import GraphShape, Identity
    from spanflow.capture.runtime import Runtime
    from spanflow.capture.step import Step

__all__ = ["Turn"]

_WHOLE_BYTES = 2_048
"""The longest string attribute that every back end keeps whole (Tempo cuts there)."""
_MOST_IDS = 128


class Turn(Frame):
    """One run of the agent inside an engagement: the root of what is written of it."""

    __slots__ = (
        "__weakref__",
        "calls",
        "events",
        "failed",
        "global_steps",
        "goal_paths",
        "goals",
        "goals_reached",
        "has_adopted",
        "holding",
        "identity",
        "identity_attributes",
        "identity_fields",
        "last_started",
        "listed",
        "lock",
        "nested",
        "orders",
        "steps",
        "successor",
        "totals",
        "visits",
        "waiting",
        "waits",
    )

    def __init__(
        self,
        runtime: Runtime,
        shape: GraphShape,
        identity: Identity,
        started_ns: int | None = None,
    ) -> None:
        super().__init__(runtime, shape, None, started_ns)
        self.turn = self
        self.lock = threading.RLock()
        self.identity = identity
        self.goal_paths = shape.resolve(identity.goals)
        # Where the steps are not known beforehand, what was declared holds as it was said.
        declared = identity.goals if identity.goals_hold else self.goal_paths.values()
        self.goals = [name for name in identity.goals if name in declared]
        self.global_steps = shape.resolve(identity.global_steps)
        self.step_tools = identity.step_tools
        self.listed: set[str] = set()  # steps of graphs inside a plain turn
        self.goals_reached: list[str] = []
        self.visits: dict[str, int] = {}
        self.steps: dict[str, Step] = {}
        self.orders: dict[str | None, Order] = {}
        self.calls = CallLog()
        self.totals = Totals()
        self.events = Events()
        self.failed: tuple[int, str] | None = None
        self.waiting: str | None = None
        self.waits: dict[object, dict[str, Any]] = {}
        self.nested = 0  # graphs that run in it now
        self.holding: set[str | None] = set()  # the threads whose graphs wait for somebody here
        self.last_started: str | None = None
        self.successor: Turn | None = None  # that goes on in the same block after a pause
        context, links = _surroundings(identity)
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
        self.context = scopes.within(self.scope, self.context)
        self.has_adopted = False
        self.on_thread = identity.on_thread
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
            "name": identity.name or None,
            "turn_kind": identity.kind,
            "graph_version": shape.version,
            "on_thread": identity.on_thread,
            "conversation_id": identity.conversation_id,
            "user_id": identity.user_id,
            "session_id": identity.session_id,
            "metadata": identity.metadata or None,
            "service_name": runtime.service_name,
            "started_ns": self.started_ns,
            "answers": identity.answers or None,
            "resolution": identity.resolution,
            "origin_turn_id": _origin_turn(identity),
            "origin_superstep": identity.origin.superstep if identity.origin else None,
            "links": [
                {
                    "trace_id": f"{link.context.trace_id:032x}",
                    "span_id": f"{link.context.span_id:016x}",
                    "kind": (link.attributes or {}).get(semconv.LINK_KIND),
                }
                for link in links
            ],
        }
        scopes.turns[self.span_id] = self
        self.know(shape)
        runtime.record({**self.base, "phase": "start", "goals": self.goals or None})

    def _start_attributes(self) -> dict[str, AttributeValue]:
        who = self.identity
        attributes: dict[str, AttributeValue | None] = {
            **self.identity_attributes,
            semconv.GEN_AI_OPERATION_NAME: semconv.OPERATION_INVOKE_WORKFLOW,
            semconv.GEN_AI_WORKFLOW_NAME: self.shape.name or None,
            semconv.GEN_AI_CONVERSATION_ID: who.conversation_id,
            semconv.USER_ID: who.user_id,
            semconv.SESSION_ID: who.session_id,
            semconv.ENGAGEMENT_NAME: who.name or None,
            semconv.ENGAGEMENT_METADATA: _whole_json(who.metadata),
            semconv.TURN_KIND: who.kind,
            semconv.TURN_ON_THREAD: who.on_thread,
            semconv.TURN_GOALS: self.goals or None,
            semconv.GRAPH_VERSION: self.shape.version,
            semconv.TURN_ANSWERS: who.answers or None,
            semconv.TURN_RESOLUTION: who.resolution,
            semconv.TURN_ORIGIN_ID: _origin_turn(who),
            semconv.TURN_ORIGIN_SUPERSTEP: who.origin.superstep if who.origin else None,
        }
        return {key: value for key, value in attributes.items() if value is not None}

    def goal_at(self, path: str) -> str | None:
        """Return the goal that a step at `path` reaches, if it is one."""
        return self.goal_paths.get(path) or self.unlisted(self.identity.goals, path)

    def unlisted(self, names: tuple[str, ...], path: str) -> str | None:
        """Return which of `names` means a step no topology lists: a task, a graph made late."""
        if not names or path in self.shape.paths or path in self.listed:
            return None
        if path in names:
            return path
        outer, _, last = path.rpartition("/")
        return last if outer and last in names else None

    def know(self, shape: GraphShape) -> None:
        """Write the topology of `shape` to the journal, once a process and journal."""
        journal = self.runtime.journal
        if journal is None or shape.version is None:
            return
        if shape.version in self.runtime.known_graphs:
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

    @property
    def is_plain(self) -> bool:
        """Whether its steps are not those of a graph that a framework runs."""
        return self.shape.version is None

    def order_below(self, step: Step | None) -> Order:
        """Return how the steps of plain code follow each other inside a step, or at the top."""
        return self.orders.setdefault(step.span_id if step is not None else None, Order())

    def goes_on(self, thread: str | None) -> None:
        """Take into account that a graph runs: whoever waited on its thread waits no more."""
        self.holding.discard(thread)
        if self.is_plain:
            self.paused = bool(self.holding)

    def waits_inside(self, thread: str | None) -> None:
        """Take into account that a graph that ran in this turn has paused.

        A graph's own turn learns of it in its steps. A plain turn that ends so has paused as well,
        whatever else it did.
        """
        if self.is_plain:
            self.holding.add(thread)
            self.paused = True

    def continues(
        self, kind: str | None, answers: tuple[str, ...], resolution: str | None, thread: str
    ) -> None:
        """Learn from a graph inside a plain turn that it runs on a thread, and goes on with it.

        Args:
            kind: How the turn began, where the graph knows better; else None.
            answers: The ids of the interrupts that are answered.
            resolution: What the app calls its answer.
            thread: The conversation.
        """
        who = self.identity
        told: dict[str, Any] = {"on_thread": True}
        if who.conversation_id is None:
            told["conversation_id"] = thread
        if kind is not None:
            # One that works for another turn goes on working for it.
            kind = who.kind if who.kind == "remote" else kind
            resolution = resolution or who.resolution
            told |= {"kind": kind, "answers": answers, "resolution": resolution}
        self.becomes(dataclasses.replace(who, **told))

    def becomes(self, who: Identity) -> None:
        """Say anew whose turn this is: on its span at once, and in its record as it ends."""
        self.identity = who
        self.on_thread = who.on_thread
        self.base |= {
            "on_thread": who.on_thread,
            "conversation_id": who.conversation_id,
            "user_id": who.user_id,
            "session_id": who.session_id,
            "metadata": who.metadata or None,
            "turn_kind": who.kind,
            "answers": who.answers or None,
            "resolution": who.resolution,
        }
        self.span.set_attributes(self._start_attributes())

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
            self.reach(step.goal, step.ended_ns, {"step": step.path})
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

    def reach(self, goal: str, at_ns: int, payload: dict[str, Any] | None) -> None:
        """Take into account that a goal is reached, whether or not it was declared."""
        if goal not in self.goals:
            self.goals.append(goal)
        if goal not in self.goals_reached:
            self.goals_reached.append(goal)
        self.add_event(Event("goal", goal, at_ns, payload))

    def note_wait(self, key: object, payload: dict[str, Any]) -> bool:
        """Remember what a step asks a human; False where a step inside it asked that already.

        Args:
            key: What tells it from every other question of this turn.
            payload: Its ``id``, and its ``payload`` where content is captured.
        """
        with self.lock:
            if key in self.waits:
                return False
            self.waits[key] = payload
            return True

    def add_event(self, event: Event) -> None:
        """Put an event on the turn's span and into its record."""
        if self.events.add(event):
            event.write(self.span)

    def close(
        self,
        outcome: str,
        error: BaseException | None = None,
        *,
        told: tuple[str, str] | None = None,
        ended_ns: int | None = None,
    ) -> None:
        """End the turn: its open steps, its totals, its outcome.

        Args:
            outcome: ``completed``, ``paused``, ``failed``, ``cancelled`` or ``left``.
            error: What made it fail, where it failed.
            told: Type and message of what made it fail, where nobody here has the error itself.
            ended_ns: When it ended, if that is known better than by now.
        """
        with self.lock:
            if self.ended:
                return
            self._close_steps("cancelled", None)
            self.ended = True
        ended_ns = ended_ns or time.time_ns()
        self.calls.settle(None, self.totals)
        fields: dict[str, Any] = {"phase": "end", "ended_ns": ended_ns, "status": outcome}
        event = None
        if error is not None:
            told = told_by(error, self.runtime.payload_bytes)
            event = error_event(error, ended_ns, self.runtime.payload_bytes)
        elif told is not None:
            event = Event("error", told[0], ended_ns, {"message": told[1], "stack": None})
        if outcome == "failed" and event is not None and told is not None:
            if self.failed is None:
                self.add_event(event)
            kind, text = told
            fields["error_type"], fields["error_message"] = kind, text or None
            self.span.set_attribute(semconv.ERROR_TYPE, kind)
            self.span.set_status(Status(StatusCode.ERROR, text[:LONGEST_STATUS]))
        # That there were none is told too: a call that comes late is then known to be missing here.
        spent = usage_attributes(self.totals) or {semconv.USAGE_LLM_CALLS: 0}
        waits = self._wait_attributes()
        self.span.set_attributes(self._end_attributes(outcome) | spent | waits)
        if getattr(self.span, "dropped_attributes", 0):
            self._say_again(outcome)
        waits.pop(semconv.TURN_INTERRUPTS, None)
        self.span.end(ended_ns)
        scopes.turns.pop(self.span_id, None)
        self.runtime.record(
            {
                **self.base,
                **fields,
                "goals": self.goals or None,
                "attributes": spent | waits,
                "events": self.events.as_records(),
            }
        )

    def _say_again(self, outcome: str) -> None:
        """Put back what too many attributes pushed out; said last, identity is dropped last."""
        self.span.set_attributes(self._start_attributes())
        self.span.set_attributes(self._end_attributes(outcome))
        named = {
            semconv.ENGAGEMENT_NAME: self.identity.name,
            semconv.TURN_KIND: self.identity.kind,
        }
        self.span.set_attributes({**named, **self.identity_attributes})

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
        return attributes

    def _wait_attributes(self) -> dict[str, AttributeValue]:
        """Return the ids of what is asked, and the questions where content is captured."""
        waits = list(self.waits.values())
        if not waits:
            return {}
        attributes: dict[str, AttributeValue] = {
            semconv.TURN_INTERRUPT_IDS: [wait["id"] for wait in waits[:_MOST_IDS]]
        }
        if "payload" in waits[0]:
            asked = [{"id": wait["id"], "payload": wait["payload"]} for wait in waits]
            text = fitted(asked, _WHOLE_BYTES)
            if not text.truncated:
                attributes[semconv.TURN_INTERRUPTS] = text.text
        return attributes

    def _preview(self, outcome: str) -> tuple[str, str | None]:
        """Return the engagement's status and drop-off as far as this turn alone can tell.

        SQL, which sees all turns, tells the rest.
        """
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


def _surroundings(who: Identity) -> tuple[Context, list[Link]]:
    """Return the context a turn starts in, and its links.

    A turn started inside the user's span is its child. One started by a task or thread that
    outlived an earlier turn of ours stands alone, and is linked to what started it; that of
    somebody else's agent is linked as well, and its child.
    """
    context = carried.without(otel_context.get_current())
    links: list[Link] = []
    if who.previous is not None:
        links.append(Link(who.previous, {semconv.LINK_KIND: semconv.LINK_PREVIOUS_TURN}))
    if who.left_from is not None:
        links.append(Link(who.left_from, {semconv.LINK_KIND: semconv.LINK_LEFT_FROM}))
    if who.started_by is not None:
        links.append(Link(who.started_by, {semconv.LINK_KIND: semconv.LINK_STARTED_BY}))
        return context, links
    scope = scopes.current.get() or scopes.handed_on()
    if scope is not None and scope.turn is not None and scope.turn.ended:
        around = trace.get_current_span(context).get_span_context()
        if around.is_valid and f"{around.trace_id:032x}" == scope.turn.trace_id:
            links.append(Link(around, {semconv.LINK_KIND: semconv.LINK_STARTED_BY}))
            context = trace.set_span_in_context(trace.INVALID_SPAN, context)
    return context, links


def _origin_turn(who: Identity) -> str | None:
    turn = who.origin.turn if who.origin is not None else None
    return f"{turn.span_id:016x}" if turn is not None else None


def _whole_json(metadata: Mapping[str, Any]) -> str | None:
    """Return `metadata` as JSON if it is short enough for every back end to keep it whole."""
    if not metadata:
        return None
    import orjson  # noqa: PLC0415 - only turns that carry metadata pay for it

    text = orjson.dumps(metadata).decode()
    return text if len(text.encode()) <= _WHOLE_BYTES else None
