"""The step that somebody else's span of an agent is: its start, what happened in it, its end.

Which spans are steps, and where they stand, is decided in ``adopted``.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple

from opentelemetry import trace

from spanflow import semconv
from spanflow.capture import goals
from spanflow.capture import scope as scopes
from spanflow.capture.content import captures_content
from spanflow.capture.events import Events, told_by
from spanflow.capture.step import Step
from spanflow.capture.told import ended_events
from spanflow.capture.usage import usage_attributes

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import ReadableSpan, Span
    from opentelemetry.trace import Link
    from opentelemetry.util.types import AttributeValue

    from spanflow.capture.events import Event
    from spanflow.capture.frame import Frame

__all__ = ["AdoptedStep", "Ending", "scope_name"]

_PREFIX = "spanflow."


class Ending(NamedTuple):
    """How the work of an agent or a workflow ended.

    Of an error `told` is type and message, and `error` the exception where it is known.
    """

    outcome: str
    told: tuple[str, str] | None
    error: BaseException | None = None


class AdoptedStep(Step):
    """A step whose span is somebody else's: named as it starts, and only read afterwards."""

    __slots__ = ("_ended", "_span", "_told")

    def __init__(
        self, span: Span, frame: Frame, name: str, parent: Step | None, context: Context
    ) -> None:
        self._span = span
        self._ended: ReadableSpan | None = None
        self._told: tuple[str, str] | None = None
        key = f"{span.get_span_context().span_id:016x}"
        if parent is not None:
            # A node that is run again for an answer asks the same agents again, in the same order.
            within = f"{parent.span_id}/{name}"
            nth = frame.turn.visits[within] = frame.turn.visits.get(within, 0) + 1
            key = f"{parent.key}/{name}/{nth}"
        super().__init__(frame, name, key, None, parent, agent_name=name, context=context)
        self.trace_id = f"{span.get_span_context().trace_id:032x}"
        self.context = scopes.within(self.scope, trace.set_span_in_context(span, context))
        self.base["trace_id"] = self.trace_id
        self.base["parent_span_id"] = f"{span.parent.span_id:016x}" if span.parent else None
        self.base["scope"] = scope_name(span)

    def _open_span(
        self,
        name: str,  # noqa: ARG002 - it has one of its own
        context: Context,  # noqa: ARG002 - it has started
        attributes: dict[str, AttributeValue],
        links: list[Link] | None,  # noqa: ARG002 - nothing is known to have caused it
    ) -> Span:
        """Say on the span whose step it is; what it says of its agent itself is its own affair."""
        self.started_ns = self._span.start_time or self.started_ns
        ours = {key: value for key, value in attributes.items() if _is_ours(key)}
        self._span.set_attributes(
            {**ours, semconv.STEP_ID: f"{self._span.get_span_context().span_id:016x}"}
        )
        return self._span

    def add_event(self, event: Event) -> None:
        """Keep an event for the step's record: the span is not ours to write to."""
        if self._events is None:
            self._events = Events()
        self._events.add(event)

    def note_inner(self, error: BaseException | None, told: tuple[str, str] | None = None) -> None:
        """Hear of an error from inside, which this step's span may repeat in its own words."""
        if told is None and error is not None:
            told = told_by(error, self.frame.runtime.payload_bytes)
        super().note_inner(error, told)

    def take_name(self, name: str | None) -> None:
        """Take the name that the span tells as it ends; what ended inside keeps the path it had."""
        if name is None or name == self.base["name"]:
            return
        turn = self.frame.turn
        with turn.lock:
            early = self.path
            self.path = f"{self.parent.path}/{name}" if self.parent is not None else name
            self.agent_name = name
            self.goal = turn.goal_at(self.path)
            self.base |= {"name": name, "path": self.path, "agent_name": name, "goal": self.goal}
            if turn.last_started == early:
                turn.last_started = self.path
        goals.note_shape(f"agent {self.path}", (self.path,), ())

    def finish(self, span: ReadableSpan, ending: Ending) -> None:
        """End the step with its span.

        Args:
            span: The step's own, ended.
            ending: How its work ended.
        """
        with self.frame.turn.lock:
            if self.status == "waiting":
                return  # for a person, whatever the framework made of that afterwards
            self._ended = span
            self._told = ending.told
            self.status = "cancelled" if ending.outcome == "left" else ending.outcome
            self.ended_ns = span.end_time or time.time_ns()
            if ending.told is not None or ending.error is not None:
                (self.parent or self.frame.turn).note_inner(ending.error, ending.told)
            is_open = self.frame.open.get(self.key) is self
            self.parked = True
        if is_open:
            self.end()
        else:  # its turn ended before it did, and had taken it for cancelled
            self.base |= {"ended_ns": self.ended_ns, "status": self.status}
            self._write()

    def _write(self) -> None:
        fields: dict[str, Any] = {
            # None at all is told too: another feed would fill in what came up from inside.
            "events": self._told_events(),
        }
        if self.status == "failed" and self._told is not None:
            fields["error_type"], fields["error_message"] = self._told
        if self._totals is not None:
            fields["attributes"] = usage_attributes(self._totals) or None
        if self._ended is None and self.status == "waiting":
            self._span.set_attributes(
                {semconv.STEP_STATUS: self.status, semconv.STEP_ATTEMPTS: self.attempts}
            )
        self.frame.turn.steps.pop(self.span_id, None)
        self.frame.runtime.record({**self.base, **fields})

    def _told_events(self) -> list[dict[str, Any]]:
        """Return what an app said of the step, and its span's events.

        An error that came up from a step inside this one is that step's event: counted once.
        """
        kept = (self._events.as_records() if self._events is not None else None) or []
        if self._ended is None:
            return kept
        limit = self.frame.runtime.payload_bytes
        ending = (self.status, self._told)
        told = ended_events(self._ended, ending, limit, content=captures_content())
        return kept + [event for event in told if not self._is_inner(event)]

    def _is_inner(self, event: dict[str, Any]) -> bool:
        kind = event["name"].rpartition(".")[2]
        return (
            self.noted is not None
            and event["kind"] == "error"
            and self.noted.has_told((kind, event["payload"]["message"]))
        )


def scope_name(span: object) -> str:
    """Return the name of the scope that made a span."""
    scope = getattr(span, "instrumentation_scope", None)
    return scope.name if scope is not None else ""


def _is_ours(key: str) -> bool:
    return key.startswith(_PREFIX)
