"""A call made inside (or outside) a step: to a model, of embeddings, of a tool, a retrieval.

Its span is an invocation of OpenTelemetry's ``util-genai``, which owns its name, attributes,
metrics and content capture. It is suspended as soon as it is started: no context token made in one
callback is ever detached in another. This module adds identity, tells the step what was spent, and
writes the record; it knows no framework.
"""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING, Any

from opentelemetry import trace
from opentelemetry.context import get_value, set_value
from opentelemetry.util.genai.invocation import (  # pyright: ignore[reportMissingTypeStubs]
    CLIENT_EMBEDDING_CONTEXT_KEY,
    CLIENT_INFERENCE_CONTEXT_KEY,
    CLIENT_RETRIEVAL_CONTEXT_KEY,
)
from opentelemetry.util.genai.types import Error  # pyright: ignore[reportMissingTypeStubs]
from opentelemetry.util.genai.utils import (  # pyright: ignore[reportMissingTypeStubs]
    fq_exception_type,
)

from spanflow import semconv
from spanflow.capture import agents, carried
from spanflow.capture.caller import caller
from spanflow.capture.events import LONGEST_STATUS, Event, Events, told_by
from spanflow.capture.invocations import redact_inner
from spanflow.capture.payload import Payload, clean, identifier, payload_of
from spanflow.capture.records import usage_fields
from spanflow.capture.runtime import SCOPE_NAME, Runtime, span_ids
from spanflow.capture.scope import OPEN_CALL
from spanflow.capture.usage import measure
from spanflow.guard import diagnose
from spanflow.spending import Call, Totals, Usage

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.util.genai.invocation import (  # pyright: ignore[reportMissingTypeStubs]
        GenAIInvocation,
    )

    from spanflow.capture.scope import Scope

__all__ = ["REPORTED_ONCE", "UNKNOWN_PROVIDER", "OpenCall", "enclosing"]

UNKNOWN_PROVIDER = "unknown"

REPORTED_ONCE = {
    "llm": CLIENT_INFERENCE_CONTEXT_KEY,
    "embeddings": CLIENT_EMBEDDING_CONTEXT_KEY,
    "retrieval": CLIENT_RETRIEVAL_CONTEXT_KEY,
}
"""Calls that are part of one of their kind around them, and util-genai's key for the outer one."""


class OpenCall:
    """A call that has begun: its span, where it belongs, and what is known of it so far."""

    __slots__ = (
        "_answered_by",
        "_context",
        "_events",
        "_inner",
        "_outer",
        "can_take_in",
        "captures_content",
        "ended",
        "fields",
        "first_token_ns",
        "invocation",
        "kind",
        "parent_span_id",
        "runtime",
        "scope",
        "span_id",
        "started_ns",
        "trace_id",
    )

    def __init__(  # noqa: PLR0913 - made by CallSpans only
        self,
        runtime: Runtime,
        kind: str,
        invocation: GenAIInvocation,
        scope: Scope | None,
        *,
        context: Context,
        fields: dict[str, Any],
    ) -> None:
        invocation.suspend()
        self.runtime = runtime
        self.kind = kind
        self.invocation = invocation
        self.scope = scope
        self.fields = fields
        self.first_token_ns: int | None = None
        self.ended = False
        self.can_take_in = False
        self._events = Events()
        self._inner: Totals | None = None
        self._outer = _outer(kind, context)
        self._answered_by: tuple[str | None, str | None] = (None, None)
        self._context = set_value(OPEN_CALL, self, carried.without(invocation.context))
        self.captures_content = invocation.should_capture_content
        if invocation.conversation_id is not None:
            # Taken from the context around: whoever put it there did not redact it.
            invocation.conversation_id = identifier(invocation.conversation_id)
        self.started_ns = getattr(invocation.span, "start_time", None) or time.time_ns()
        turn = scope.turn if scope is not None else None
        self.trace_id, self.span_id = span_ids(
            invocation.span, turn.trace_id if turn is not None else None
        )
        parent = trace.get_current_span(context).get_span_context()
        self.parent_span_id = f"{parent.span_id:016x}" if parent.is_valid else None
        if turn is None:
            fields["caller"] = caller()
            invocation.attributes[semconv.CALL_CALLER] = fields["caller"]
        if turn is not None and scope is not None:
            identity = dict(turn.identity_attributes)
            if scope.step is not None:
                identity[semconv.STEP_ID] = scope.step.span_id
                attempt = scope.step.attempt
                if attempt > 1:
                    fields["attempt"] = identity[semconv.CALL_ATTEMPT] = attempt
            invocation.span.set_attributes(identity)
            if turn.identity.conversation_id is not None:
                invocation.span.set_attribute(
                    semconv.GEN_AI_CONVERSATION_ID, turn.identity.conversation_id
                )
        agent = agents.name_at(scope) or fields.get("agent_name")
        if agent is not None:
            fields["agent_name"] = agent
            invocation.span.set_attribute(semconv.GEN_AI_AGENT_NAME, agent)

    @property
    def context(self) -> Context:
        """The OpenTelemetry context in which this call's own work belongs."""
        return self._context

    @property
    def calls_inside(self) -> int:
        """How many calls made within this one, and ended by now, told what they spent."""
        owner = (self.scope.step or self.scope.turn) if self.scope is not None else None
        found = owner.calls.told_within(self.span_id, self.started_ns) if owner is not None else 0
        if self._inner is not None:
            found += self._inner.llm_calls - self._inner.calls_without_usage
        return found

    @property
    def is_answered_inside(self) -> bool:
        """Whether a call made within this one has told what it spent."""
        return self._inner is not None

    def takes_in(self, kind: str, name: str, scope: Scope | None) -> bool:
        """Whether a call of this kind and name, begun inside, is this one, told again.

        Only the first one is: what a framework calls, it calls once.

        Args:
            kind: What kind of call begins.
            name: What it calls.
            scope: Where it belongs.
        """
        is_same = (
            self.can_take_in
            and self.kind == kind
            and self.fields.get("name") == name
            and (self.scope.step if self.scope is not None else None)
            is (scope.step if scope is not None else None)
        )
        if is_same:
            self.can_take_in = False
        return is_same

    def note(self, kind: str, payload: dict[str, Any]) -> None:
        """Note something that happens while the call goes on, as an event of its span."""
        event = Event(kind, kind, time.time_ns(), payload)
        if self._events.add(event):
            event.write(self.invocation.span)

    def answered_inside(self, usage: Usage, provider: str | None, model: str | None) -> None:
        """Learn of a call made within this one, and none of its own, who answered and what for."""
        if self._inner is None:
            self._inner = Totals()
        self._inner.add(usage)
        self._answered_by = (provider, model)

    def say_who_answered(self, provider: str | None, model: str | None) -> None:
        """Tell who served the call, and the model that answered, as far as that is known."""
        told: Any = self.invocation
        if provider is not None:
            self.fields["provider"] = provider
            told.attributes[semconv.GEN_AI_PROVIDER_NAME] = provider
            asked: Any = getattr(told, "data", None)
            if asked is not None:  # of inference only: what the conventions' own metrics say
                asked.provider_name = provider
        if model is not None:
            told.response_model_name = self.fields["model"] = model

    def first_token(self) -> None:
        """Note that the first piece of a streamed answer arrived; later pieces change nothing."""
        if self.first_token_ns is None:
            self.first_token_ns = time.time_ns()
            self.invocation.record_stream_chunk()

    def keep(self, name: str, value: object) -> Payload:
        """Keep a payload (``arguments`` or ``result``) on the record, cut to the limit.

        Returns:
            What was kept.
        """
        kept = payload_of(value, self.runtime.payload_bytes)
        self.fields[name] = kept.text
        if kept.truncated:
            extra = self.fields.setdefault("attributes", {})
            extra[semconv.PAYLOAD_TRUNCATED] = True
            extra[semconv.PAYLOAD_ORIGINAL_SIZE] = kept.original_size
            self.invocation.attributes[semconv.PAYLOAD_TRUNCATED] = True
            self.invocation.attributes[semconv.PAYLOAD_ORIGINAL_SIZE] = kept.original_size
        return kept

    def end(
        self,
        usage: Usage | None = None,
        error: BaseException | None = None,
        *,
        status: str | None = None,
        error_type: str | None = None,
    ) -> None:
        """End the call, count it where it belongs and write its record.

        Args:
            usage: What it spent, for calls to a model.
            error: What it failed with.
            status: ``ok``, ``error``, ``cancelled`` or ``waiting``; derived from `error` where it
                is not given.
            error_type: The type of a failure that was handed over as a result.
        """
        if self.ended:
            return
        self.ended = True
        if usage is not None and self._inner is not None:
            usage = self._completed(usage, self._inner)
        if usage is not None and "refused" in usage.flags:
            diagnose(
                "usage.refused",
                "a model reported an impossible number of tokens; it is kept as unknown",
            )
        status = status or ("ok" if error is None and error_type is None else "error")
        self._tell_end(usage, status, error_type)
        message: str | None = None
        redact_inner(self.invocation)
        if error is not None and status != "waiting":
            error_type, message = told_by(error, self.runtime.payload_bytes)
            self.invocation.fail(Error(message[:LONGEST_STATUS], clean(fq_exception_type(error))))
        else:
            self.invocation.stop()
        outer = self._outer
        if outer is not None and not outer.ended:
            # One call, seen from further inside: its span and its record are the outer one's.
            if usage is not None:
                provider = self.fields.get("provider")
                told = provider if provider != UNKNOWN_PROVIDER else None
                outer.answered_inside(usage, told, self.fields.get("model"))
            return
        if outer is not None:
            # It outlived the outer one, which nobody can tell any more: a call beside it.
            self.span_id = span_ids(trace.INVALID_SPAN)[1]
            self.parent_span_id = outer.parent_span_id
        ended_ns = getattr(self.invocation.span, "end_time", None) or time.time_ns()
        self._count(usage, ended_ns)
        self._write(usage, status, error_type, message, ended_ns)

    def _tell_end(self, usage: Usage | None, status: str, error_type: str | None) -> None:
        """Say on the span what the conventions have no word for."""
        if error_type is not None:
            self.invocation.attributes[semconv.ERROR_TYPE] = error_type
            self.invocation.span.set_status(trace.Status(trace.StatusCode.ERROR))
        if usage is not None and usage.flags:
            self.invocation.attributes[semconv.USAGE_FLAGS] = list(usage.flags)
        if usage is not None and usage.cost_usd is not None:
            self.invocation.attributes[semconv.USAGE_COST_USD] = usage.cost_usd
        if status not in ("ok", "error"):
            self.invocation.attributes[semconv.CALL_STATUS] = status
        if (
            usage is not None
            and usage.total_tokens is not None
            and usage.total_tokens != _sum(usage)
        ):
            self.invocation.attributes[semconv.USAGE_TOTAL_TOKENS] = usage.total_tokens

    def _completed(self, usage: Usage, inner: Totals) -> Usage:
        """Return the usage with what calls within told and whoever reported this one did not."""
        self.say_who_answered(*self._answered_by)
        cost = usage.cost_usd
        if cost is None and not inner.unpriced_calls:
            cost = inner.cost_usd
        if usage.known:
            return dataclasses.replace(usage, cost_usd=cost)
        told: Any = self.invocation
        told.input_tokens, told.output_tokens = inner.input_tokens, inner.output_tokens
        return Usage.of(**{**inner.as_dict(), "cost_usd": cost}, flags=usage.flags)

    def _count(self, usage: Usage | None, ended_ns: int) -> None:
        turn = self.scope.turn if self.scope is not None else None
        step = self.scope.step if self.scope is not None else None
        owner = step or turn
        is_tool = self.kind == "tool"
        call = Call(
            span_id=self.span_id,
            parent_span_id=None if is_tool else self.parent_span_id,
            scope=SCOPE_NAME,
            step_id=step.span_id if step is not None else None,
            model=self.fields.get("name" if is_tool else "model"),
            response_id=self.fields.get("call_id" if is_tool else "response_id"),
            started_ns=self.started_ns,
            ended_ns=ended_ns,
            usage=usage or Usage(),
        )
        if owner is None:
            if usage is not None:
                measure([call])
        elif usage is not None:
            owner.calls.add(call)
        else:
            if is_tool:
                owner.calls.add_tool(call)
            owner.calls.add_parent(self.span_id, self.parent_span_id)

    def _write(
        self,
        usage: Usage | None,
        status: str,
        error_type: str | None,
        message: str | None,
        ended_ns: int,
    ) -> None:
        record: dict[str, Any] = {
            "source": "capture",
            "phase": "end",
            "kind": self.kind,
            "trace_id": self.trace_id,
            "span_id": self.span_id,
            "parent_span_id": self.parent_span_id,
            "scope": SCOPE_NAME,
            "service_name": self.runtime.service_name,
            "started_ns": self.started_ns,
            "ended_ns": ended_ns,
            "status": status,
            **self.fields,
        }
        if self.scope is not None and self.scope.turn is not None:
            record |= self.scope.turn.identity_fields
            if self.scope.step is not None:
                record["step_id"] = self.scope.step.span_id
        if usage is not None:
            record |= usage_fields(usage)
        if self.first_token_ns is not None:
            record["time_to_first_token_ms"] = (self.first_token_ns - self.started_ns) / 1e6
        record["events"] = self._events.as_records()
        if error_type is not None:
            record["error_type"] = error_type
        if message:  # a span cannot say that there was an empty one
            record["error_message"] = message
        self.runtime.record(record)


def enclosing() -> OpenCall | None:
    """Return the innermost call of ours that is going on around the running code."""
    call = get_value(OPEN_CALL)
    return call if isinstance(call, OpenCall) and not call.ended else None


def _outer(kind: str, context: Context) -> OpenCall | None:
    """Return the call that one of this kind, begun in `context`, is only a part of."""
    call = get_value(OPEN_CALL, context) if kind in REPORTED_ONCE else None
    return call if isinstance(call, OpenCall) and call.kind == kind and not call.ended else None


def _sum(usage: Usage) -> int | None:
    """Return the total that a reader of the conventions' own attributes will see."""
    if usage.input_tokens is None or usage.output_tokens is None:
        return None
    return usage.input_tokens + usage.output_tokens
