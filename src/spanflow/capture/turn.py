"""A turn: the root frame of one run of the agent; what happens in it, its goals, its outcome.

This module knows OpenTelemetry and no framework; what happens in the graph it is told. What its
span and record say as it begins and ends is put into words by ``turn_start`` and ``turn_end``.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from typing import TYPE_CHECKING, Any

from opentelemetry import trace
from opentelemetry.trace import Status, StatusCode

from spanflow import semconv
from spanflow.capture import scope as scopes
from spanflow.capture.events import LONGEST_STATUS, Event, Events, error_event, told_by
from spanflow.capture.frame import Frame
from spanflow.capture.noted import Noted
from spanflow.capture.order import Order
from spanflow.capture.runtime import span_ids
from spanflow.capture.turn_end import end_attributes, wait_attributes
from spanflow.capture.turn_start import (
    identity_record,
    links_record,
    origin_record,
    start_attributes,
    surroundings,
)
from spanflow.capture.usage import CallLog, usage_attributes
from spanflow.spending import Totals

if TYPE_CHECKING:
    from opentelemetry.util.types import AttributeValue

    from spanflow.capture.identity import GraphShape, Identity
    from spanflow.capture.runtime import Runtime
    from spanflow.capture.step import Step

__all__ = ["Turn"]


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
        "noted",
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
        self.noted: Noted | None = None
        self.waiting: str | None = None
        self.waits: dict[object, dict[str, Any]] = {}
        self.nested = 0  # graphs that run in it now
        self.holding: set[str | None] = set()  # the threads whose graphs wait for somebody here
        self.last_started: str | None = None
        self.successor: Turn | None = None  # that goes on in the same block after a pause
        context, links = surroundings(identity)
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
            "graph_version": shape.version,
            "service_name": runtime.service_name,
            "started_ns": self.started_ns,
            **identity_record(identity),
            **origin_record(identity),
            "links": links_record(links),
        }
        scopes.turns[self.span_id] = self
        self.know(shape)
        runtime.record({**self.base, "phase": "start", "goals": self.goals or None})

    def _start_attributes(self) -> dict[str, AttributeValue]:
        own = start_attributes(self.identity, self.shape, self.goals)
        return {**self.identity_attributes, **own}

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
        self.base |= identity_record(who)
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

    def note_inner(self, error: BaseException | None, told: tuple[str, str] | None = None) -> None:
        """Hear of an error that ended a step, which may come up.

        Args:
            error: The error itself, where it is known.
            told: Its class and message, where somebody else's span tells no more.
        """
        # Where nobody asks, an error must not keep alive what its traceback names.
        if self.is_plain and not self.ended:
            self.noted = self.noted or Noted()
            self.noted.add(error, told)

    def _came_up(self, error: BaseException | None, told: tuple[str, str]) -> bool:
        """Whether what ended the turn ended a step before, whose event it then is."""
        if error is None or not self.is_plain:
            return self.failed is not None  # a graph may raise another error than its step
        return self.noted is not None and (self.noted.has(error) or self.noted.has_told(told))

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
            if self.nested:  # left behind by whoever ran them
                for step in list(self.steps.values()):
                    step.add_up()
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
            if not self._came_up(error, told):
                self.add_event(event)
            kind, text = told
            fields["error_type"], fields["error_message"] = kind, text or None
            self.span.set_attribute(semconv.ERROR_TYPE, kind)
            self.span.set_status(Status(StatusCode.ERROR, text[:LONGEST_STATUS]))
        # That there were none is told too: a call that comes late is then known to be missing here.
        spent = usage_attributes(self.totals) or {semconv.USAGE_LLM_CALLS: 0}
        waits = wait_attributes(list(self.waits.values()))
        self.span.set_attributes(self._end_attributes(outcome) | spent | waits)
        if getattr(self.span, "dropped_attributes", 0):
            self._say_again(outcome)
        waits.pop(semconv.TURN_INTERRUPTS, None)
        self.noted = None
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
        where = self.failed[1] if self.failed else self.waiting or self.last_started
        on_thread = self.identity.on_thread
        return end_attributes(outcome, self.goals, self.goals_reached, where, on_thread=on_thread)
