"""A step: one execution of one node, all its attempts together, and what is written of it.

A failed attempt *parks* the step with its end time; a new attempt un-parks it; the frame ends it
for good. This module knows OpenTelemetry and no framework.
"""

from __future__ import annotations

import hashlib
import time
from typing import TYPE_CHECKING, Any

from opentelemetry import trace
from opentelemetry.trace import Link, SpanKind, Status, StatusCode

from spanflow import semconv
from spanflow.capture import lineage
from spanflow.capture import scope as scopes
from spanflow.capture.events import LONGEST_STATUS, Event, Events, error_event, told_by
from spanflow.capture.noted import Noted
from spanflow.capture.runtime import span_id_of
from spanflow.capture.usage import CallLog, usage_attributes
from spanflow.spending import Totals

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opentelemetry.context import Context
    from opentelemetry.trace import Span
    from opentelemetry.util.types import AttributeValue

    from spanflow.capture.causes import Cause
    from spanflow.capture.frame import Frame

__all__ = ["Step", "execution_id"]

_TRIGGERED_BY = {semconv.LINK_KIND: semconv.LINK_TRIGGERED_BY}
_MOST_LINKS = 128
"""Links that OpenTelemetry keeps of a span by default: it would drop the first of more."""


def execution_id(key: str) -> str:
    """Return the id that all runs of one task share, in whichever turn or process.

    Args:
        key: What the framework calls the task; it may be long.
    """
    return hashlib.blake2b(key.encode(errors="replace"), digest_size=8).hexdigest()


class Step:
    """One execution of one node."""

    __slots__ = (
        "_calls",
        "_events",
        "_totals",
        "agent_name",
        "attempts",
        "base",
        "context",
        "ended_ns",
        "error",
        "frame",
        "goal",
        "inner",
        "is_global",
        "key",
        "noted",
        "parent",
        "parked",
        "path",
        "scope",
        "span",
        "span_id",
        "started_ns",
        "status",
        "superstep",
        "trace_id",
        "visit",
    )

    def __init__(  # noqa: PLR0913 - made in one place, by Frame.start_step
        self,
        frame: Frame,
        name: str,
        key: str,
        superstep: int | None,
        parent: Step | None,
        *,
        agent_name: str | None = None,
        cached: bool = False,
        causes: tuple[Cause, ...] = (),
        tools: tuple[str, ...] = (),
        is_global: bool = False,
        context: Context | None = None,
    ) -> None:
        turn = frame.turn
        self.frame = frame
        self.key = key
        self.parent = parent
        self.superstep = superstep
        self.agent_name = agent_name
        self.path = f"{parent.path}/{name}" if parent is not None else name
        self.visit = turn.visits[self.path] = turn.visits.get(self.path, 0) + 1
        self.attempts = 1
        self.status = "running"
        self.parked = False
        self.error: BaseException | None = None
        self.inner = 0  # graphs that run in it now, those that a step inside it left behind too
        self.noted: Noted | None = None
        self.ended_ns = 0
        # Made when something happens: most steps of most graphs have none of these.
        self._events: Events | None = None
        self._calls: CallLog | None = None
        self._totals: Totals | None = None
        self.goal = turn.goal_at(self.path)
        self.is_global = (
            is_global
            or self.path in turn.global_steps
            or turn.unlisted(turn.identity.global_steps, self.path) is not None
        )
        self.started_ns = time.time_ns()
        at_hand = frame.tools_of(self.path, name) or tools
        outer = frame if parent is frame.parent_step or parent is None else parent
        attributes: dict[str, AttributeValue] = {
            **turn.identity_attributes,
            semconv.STEP_NAME: name,
            semconv.STEP_PATH: self.path,
            semconv.STEP_VISIT: self.visit,
        }
        told = self._tell(attributes, at_hand, causes, cached=cached)
        links = _links(causes) if causes and outer.span.is_recording() else None
        self.span = self._open_span(name, context or outer.context, attributes, links)
        self.trace_id = turn.trace_id
        self.span_id = span_id_of(self.span)
        self.scope = scopes.Scope(turn, frame, self)
        self.context = scopes.within(
            self.scope, trace.set_span_in_context(self.span, context or outer.context)
        )
        self.base: dict[str, Any] = {
            **turn.identity_fields,
            **told,
            "kind": "step",
            "trace_id": self.trace_id,
            "span_id": self.span_id,
            "step_id": self.span_id,
            "parent_span_id": _span_id_in(context) if context is not None else outer.span_id,
            "name": name,
            "path": self.path,
            "visit": self.visit,
            "started_ns": self.started_ns,
            "phase": "start",
            "status": "running",
        }

    def _open_span(
        self,
        name: str,
        context: Context,
        attributes: dict[str, AttributeValue],
        links: list[Link] | None,
    ) -> Span:
        return self.frame.runtime.tracer.start_span(
            f"step {name}",
            context=context,
            kind=SpanKind.INTERNAL,
            attributes=attributes,
            links=links,
            start_time=self.started_ns,
        )

    def _tell(
        self,
        attributes: dict[str, AttributeValue],
        tools: tuple[str, ...] | None,
        causes: tuple[Cause, ...],
        *,
        cached: bool,
    ) -> dict[str, Any]:
        """Add to `attributes` what is not said of every step; return it as a record has it."""
        parent = self.parent
        told: dict[str, Any] = {}
        # What is not said is left out. No loop: this runs at every step.
        if self.superstep is not None:
            told["superstep"] = attributes[semconv.STEP_SUPERSTEP] = self.superstep
        if parent is not None:
            told["parent_step_id"] = attributes[semconv.STEP_PARENT_ID] = parent.span_id
        if self.frame.on_thread:
            told["execution_id"] = attributes[semconv.STEP_EXECUTION_ID] = execution_id(self.key)
        if self.is_global:
            told["is_global"] = attributes[semconv.STEP_IS_GLOBAL] = True
        if self.goal is not None:
            told["goal"] = attributes[semconv.STEP_GOAL] = self.goal
        if tools:
            told["tools_available"] = attributes[semconv.STEP_TOOLS_AVAILABLE] = tools
        if self.agent_name is not None:
            told["agent_name"] = attributes[semconv.GEN_AI_AGENT_NAME] = self.agent_name
        if causes:
            told["triggered_by"] = _tell_causes(causes, attributes)
        if cached:
            told["attributes"] = {semconv.STEP_CACHED: True}
            attributes[semconv.STEP_CACHED] = True
        return told

    @property
    def calls(self) -> CallLog:
        """The calls made in this step so far."""
        if self._calls is None:
            self._calls = CallLog()
        return self._calls

    @property
    def totals(self) -> Totals:
        """What this step's calls, and those of steps inside it, add up to."""
        if self._totals is None:
            self._totals = Totals()
        return self._totals

    @property
    def depth(self) -> int:
        """How many steps stand here inside each other, this one included."""
        return 1 + len(self._ancestors())

    @property
    def is_over(self) -> bool:
        """Whether it has ended for good, a pause or its turn's end before its own code included."""
        return self.frame.open.get(self.key) is not self

    @property
    def attempt(self) -> int:
        """The attempt that is going on; of a step inside one that is tried again, at least that."""
        return max([self.attempts, *(step.attempts for step in self._ancestors())])

    def announce(self) -> None:
        """Make the step known: to spans that start inside it, and to the journal."""
        self.frame.turn.steps[self.span_id] = self
        self.frame.runtime.record(self.base)

    def begin_attempt(self) -> None:
        """Take the step up again after a failed attempt."""
        self.parked = False
        self.error = None
        self.attempts += 1
        self.status = "running"

    def fail_attempt(self, status: str, error: BaseException) -> None:
        """Note that an attempt failed or was cancelled, and park the step until it is settled.

        Args:
            status: ``failed`` or ``cancelled``.
            error: What ended the attempt.
        """
        if self.is_over:
            return
        self.ended_ns = time.time_ns()
        if status == "failed" and (self.noted is None or not self.noted.has(error)):
            # One that came up from a step inside this one is that step's event: counted once.
            limit = self.frame.runtime.payload_bytes
            self.add_event(error_event(error, self.ended_ns, limit, self.attempts))
        (self.parent or self.frame.turn).note_inner(error)
        self.status = status
        self.error = error
        self.parked = True

    def note_inner(self, error: BaseException | None, told: tuple[str, str] | None = None) -> None:
        """Hear of an error that ended a step inside this one, as :meth:`Turn.note_inner` does."""
        self.noted = self.noted or Noted()
        self.noted.add(error, told)

    def tell(self, attributes: Mapping[str, AttributeValue]) -> None:
        """Say more of the step, on its span and in its record; it is too late where it is over."""
        if self.is_over:
            return
        self.span.set_attributes(dict(attributes))
        self.base["attributes"] = {**self.base.get("attributes", {}), **attributes}

    def add_event(self, event: Event) -> None:
        """Put an event on the step's span and into its record."""
        if self._events is None:
            self._events = Events()
        if self._events.add(event):
            event.write(self.span)

    def end(self, status: str | None = None, error: BaseException | None = None) -> None:
        """End the step; without a `status`, as it was parked.

        Args:
            status: ``completed``, ``failed``, ``waiting`` or ``cancelled``.
            error: What made it fail.
        """
        turn = self.frame.turn
        with turn.lock:
            if self.frame.open.get(self.key) is not self:
                return
            del self.frame.open[self.key]
            turn.orders.pop(self.span_id, None)
            if status is not None and not self.parked:
                self.status = status
                self.error = error
                self.ended_ns = time.time_ns()
            turn.note_end(self)
            if turn.identity.on_thread and self.parent is None and self.status == "completed":
                lineage.note_step(turn.span_id, self.superstep, self.trace_id, self.span_id)
            self.add_up()
            if self.inner:
                self._leave_behind()
            self.base |= {
                "phase": "end",
                "ended_ns": self.ended_ns,
                "status": self.status,
                "attempts": self.attempts,
            }
        self._write()

    def add_up(self) -> None:
        """Add the calls made so far to what this step, those around it and its turn have spent."""
        if self._calls is None:
            return
        turn, around = self.frame.turn, self._ancestors()
        if around:
            turn.calls.place(self.span_id, tuple(step.span_id for step in around))
        inside = (step.totals for step in around)
        self._calls.settle(turn.calls, self.totals, turn.totals, *inside)

    def _leave_behind(self) -> None:
        """Count what graphs spent so far that still run in it, and hand them on to the step around.

        One that is cancelled may leave before the work inside it has noticed.
        """
        for step in list(self.frame.turn.steps.values()):
            if self in step._ancestors():  # noqa: SLF001 - one of its own kind
                step.add_up()
        if self.parent is not None:
            self.parent.inner += self.inner

    def _whereabouts(self) -> dict[str, AttributeValue]:
        """Return what a span must say to be found as this step: said last, it is dropped last."""
        return {
            semconv.STEP_VISIT: self.visit,
            semconv.STEP_STATUS: self.status,
            semconv.STEP_ID: self.span_id,
            semconv.STEP_NAME: self.base["name"],
            semconv.STEP_PATH: self.path,
            **self.frame.turn.identity_attributes,
        }

    def _ancestors(self) -> list[Step]:
        found: list[Step] = []
        step = self.parent
        while step is not None:
            found.append(step)
            step = step.parent
        return found

    def _write(self) -> None:
        fields: dict[str, Any] = {}
        if self._events is not None:
            fields["events"] = self._events.as_records()
        attributes: dict[str, AttributeValue] = {
            semconv.STEP_ID: self.span_id,
            semconv.STEP_STATUS: self.status,
            semconv.STEP_ATTEMPTS: self.attempts,
        }
        if self.status == "failed" and self.error is not None:
            limit = self.frame.runtime.payload_bytes
            kind, text = told_by(self.error, limit)
            fields["error_type"], fields["error_message"] = kind, text or None
            attributes[semconv.ERROR_TYPE] = kind
            self.span.set_status(Status(StatusCode.ERROR, text[:LONGEST_STATUS]))
        if self._totals is not None and (spent := usage_attributes(self._totals)):
            attributes |= spent
            fields["attributes"] = {**self.base.get("attributes", {}), **spent}
        self.span.set_attributes(attributes)
        if getattr(self.span, "dropped_attributes", 0):
            self.span.set_attributes(self._whereabouts())
        self.span.end(self.ended_ns)
        self.error = self.noted = None
        self.frame.turn.steps.pop(self.span_id, None)
        self.frame.runtime.record({**self.base, **fields})


def _tell_causes(causes: tuple[Cause, ...], attributes: dict[str, AttributeValue]) -> list[str]:
    """Return the ids of what caused a step; those that no link can name come last."""
    earlier = [cause[0] for cause in causes if cause[1] is None]
    if not earlier:
        return [cause[0] for cause in causes]
    attributes[semconv.STEP_TRIGGERED_BY_EXECUTIONS] = earlier
    return [cause[0] for cause in causes if cause[1] is not None] + earlier


def _span_id_in(context: Context) -> str:
    return f"{trace.get_current_span(context).get_span_context().span_id:016x}"


def _links(causes: tuple[Cause, ...]) -> list[Link]:
    known = [cause[1] for cause in causes if cause[1] is not None]
    return [Link(context, _TRIGGERED_BY) for context in known[:_MOST_LINKS]]
