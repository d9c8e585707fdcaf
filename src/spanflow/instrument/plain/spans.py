"""Spans of our own that are neither turns, steps nor calls: an agent's work, a traced function.

Inside an engagement they are in the ledger too, as spans; outside all of them they are only spans.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from opentelemetry import trace
from opentelemetry.trace import Status, StatusCode

from spanflow import semconv
from spanflow.capture.events import LONGEST_STATUS, told_by
from spanflow.capture.runtime import SCOPE_NAME, span_ids
from spanflow.instrument.endings import ending_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opentelemetry.context import Context

    from spanflow.capture.runtime import Runtime
    from spanflow.capture.scope import Scope

__all__ = ["OpenSpan"]


class OpenSpan:
    """A span that has begun, and its record.

    Args:
        runtime: Whom the capture serves.
        scope: Where it stands; None outside every engagement.
        around: The context that it starts in.
        name: The span's name.
        attributes: What it says of itself.
        fields: What its record says of it besides.
    """

    __slots__ = ("_record", "_runtime", "span")

    def __init__(  # noqa: PLR0913, PLR0917 - made in two places, by name
        self,
        runtime: Runtime,
        scope: Scope | None,
        around: Context,
        name: str,
        attributes: Mapping[str, str],
        fields: Mapping[str, Any],
    ) -> None:
        turn = scope.turn if scope is not None else None
        step = scope.step if scope is not None else None
        where: dict[str, Any] = dict(turn.identity_attributes) if turn is not None else {}
        if step is not None:
            where[semconv.STEP_ID] = step.span_id
        self._runtime = runtime
        started_ns = time.time_ns()
        self.span = runtime.tracer.start_span(
            name, context=around, attributes={**where, **attributes}, start_time=started_ns
        )
        self._record: dict[str, Any] | None = None
        if turn is None:
            return
        trace_id, span_id = span_ids(self.span, turn.trace_id)
        parent = trace.get_current_span(around).get_span_context()
        told = {k: v for k, v in attributes.items() if k != semconv.GEN_AI_OPERATION_NAME}
        self._record = {
            **turn.identity_fields,
            **fields,
            "scope": SCOPE_NAME,
            "phase": "end",
            "kind": "span",
            "name": name,
            "trace_id": trace_id,
            "span_id": span_id,
            "parent_span_id": f"{parent.span_id:016x}" if parent.is_valid else None,
            "step_id": step.span_id if step is not None else None,
            "service_name": runtime.service_name,
            "started_ns": started_ns,
            "attributes": told,
        }

    def tell(self, attributes: Mapping[str, Any]) -> None:
        """Say more of it."""
        self.span.set_attributes(dict(attributes))
        if self._record is not None:
            self._record["attributes"] = {**self._record["attributes"], **attributes}

    def end(self, error: BaseException | None) -> None:
        """End it, with what was raised inside."""
        fields: dict[str, Any] = {"status": "ok", "ended_ns": time.time_ns()}
        if error is not None and ending_of(error) == "failed":
            kind, message = told_by(error, self._runtime.payload_bytes)
            fields |= {"status": "error", "error_type": kind, "error_message": message or None}
            self.span.set_attribute(semconv.ERROR_TYPE, kind)
            self.span.set_status(Status(StatusCode.ERROR, message[:LONGEST_STATUS]))
        self.span.end(fields["ended_ns"])
        if self._record is not None:
            self._record["attributes"] = self._record["attributes"] or None
            self._runtime.record({**self._record, **fields})
