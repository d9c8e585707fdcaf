"""The calls that a node tells of in the state it returns, recorded where nobody saw them made.

A call that was captured is matched with what the state says of it, and only what was not known is
added. What is a call, and where in the state it stands, is not said here.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Any, Final, cast

from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext

from spanflow.capture.payload import clean, free_text, payload_of
from spanflow.capture.providers import provider_name
from spanflow.capture.records import usage_fields
from spanflow.guard import guarded
from spanflow.instrument.plain import gate
from spanflow.matching import same_calls
from spanflow.spending import Call, Usage

if TYPE_CHECKING:
    from opentelemetry.context import Context

    from spanflow.capture.call import OpenCall
    from spanflow.capture.step import Step

__all__ = ["plain", "record_calls", "text"]

_SCOPE: Final = "state"
_SPENT: Final = frozenset(Usage.__slots__) - {"flags"}


@guarded("state_keys.calls")
def record_calls(
    step: Step, kind: str, entries: list[dict[str, Any]], in_events: list[dict[str, Any]]
) -> None:
    """Record the calls that nobody has reported from a step, or from steps inside it.

    Args:
        step: The step of the node that tells them.
        kind: ``llm``, else of tools.
        entries: What it tells of them under their own key.
        in_events: What it tells of them among its events.
    """
    inside = step.frame.turn.calls.reported_within(kind, step.span_id)
    seen = [*step.calls.reported(kind), *inside]
    entries = [*entries, *_only_in_events(step, kind, entries, in_events)]
    claims = [_claim(step, kind, str(number), entry) for number, entry in enumerate(entries)]
    same = {
        claim.span_id: call
        for group in (same_calls([*seen, *claims]) if seen else [])
        for claim in group
        if claim.scope == _SCOPE
        for call in group
        if call.scope != _SCOPE
    }
    for entry, claim in zip(entries, claims, strict=True):
        call = same.get(claim.span_id)
        if call is None:
            _record_call(step, kind, entry, claim.usage, step.context)
        elif claim.usage.known and not call.usage.known:
            # The same call, which says what it spent only here: inside the other it counts once.
            _record_call(step, kind, entry, claim.usage, _inside(step, call))
        else:
            _complete(step, call, claim.usage)


def _only_in_events(
    step: Step, kind: str, entries: list[dict[str, Any]], in_events: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Return the calls among the events that are told under their own key with other words."""
    if not entries or not in_events:
        return in_events
    told = Counter(_said(step, kind, entry) for entry in entries)
    left: list[dict[str, Any]] = []
    for entry in in_events:
        said = _said(step, kind, entry)
        told[said] -= 1
        if told[said] < 0:
            left.append(entry)
    return left


def _said(step: Step, kind: str, entry: dict[str, Any]) -> tuple[object, ...]:
    """Return what is to be equal in two entries of one call."""
    claim = _claim(step, kind, "", entry)
    limit = step.frame.runtime.payload_bytes
    given = payload_of(entry.get("arguments"), limit).text if kind == "tool" else None
    return claim.model, claim.response_id, claim.usage, given


def _complete(step: Step, call: Call, usage: Usage) -> None:
    """Add to the record of a captured call what only the state knows of what it spent."""
    missing = {
        name: told
        for name, told in usage_fields(usage).items()
        if name in _SPENT and told is not None and getattr(call.usage, name) is None
    }
    if not missing:
        return
    turn = step.frame.turn
    # A record that says less of a span than another fills in what that one leaves out.
    step.frame.runtime.record(
        {
            **turn.identity_fields,
            "trace_id": step.trace_id,
            "span_id": call.span_id,
            "scope": call.scope,
            "started_ns": call.started_ns,
            "phase": "start",
            **missing,
        }
    )


def _claim(step: Step, kind: str, number: str, entry: dict[str, Any]) -> Call:
    told: dict[str, Any] = {}
    if kind == "llm":
        usage = entry.get("usage")
        inner = plain(cast("object", usage)) if isinstance(usage, dict) else {}
        told = {**entry, **inner}
    return Call(
        span_id=number,
        parent_span_id=None,
        scope=_SCOPE,
        step_id=None,  # its own or one inside it
        model=text(entry, "model" if kind == "llm" else "name"),
        response_id=text(entry, "response_id" if kind == "llm" else "call_id"),
        started_ns=step.started_ns,
        ended_ns=time.time_ns(),
        usage=Usage.of(**{name: told[name] for name in _SPENT if name in told}),
    )


@guarded("state_keys.call")
def _record_call(
    step: Step, kind: str, entry: dict[str, Any], usage: Usage, context: Context
) -> None:
    spans = gate.spans(step.frame.runtime)
    failure = entry.get("error")
    if kind == "llm":
        provider = text(entry, "provider")
        call = spans.inference(
            step.scope,
            context,
            provider=provider_name(provider) if provider else "unknown",
            model=clean(text(entry, "model")),
        )
        told: Any = call.invocation
        told.input_tokens, told.output_tokens = usage.input_tokens, usage.output_tokens
        response_id = text(entry, "response_id")
        if response_id:
            told.response_id = call.fields["response_id"] = clean(response_id)
        _end(call, usage, failure)
        return
    call_id = text(entry, "call_id")
    call = spans.tool(
        step.scope,
        context,
        name=clean(text(entry, "name")),
        call_id=clean(call_id) if call_id else None,
    )
    if call.captures_content:
        told = call.invocation
        if "arguments" in entry:
            told.arguments = call.keep("arguments", entry["arguments"]).text
        if "result" in entry:
            told.tool_result = call.keep("result", entry["result"]).text
    _end(call, None, failure)


def _end(call: OpenCall, usage: Usage | None, failure: object) -> None:
    if failure is None or failure is False or (isinstance(failure, str) and not failure):
        call.end(usage)
    elif isinstance(failure, BaseException):
        call.end(usage, failure)
    else:
        call.fields["error_message"] = free_text(failure, call.runtime.payload_bytes)
        call.end(usage, error_type="error")


def _inside(step: Step, call: Call) -> Context:
    outer = SpanContext(
        int(step.trace_id, 16),
        int(call.span_id, 16),
        is_remote=False,
        trace_flags=step.span.get_span_context().trace_flags,
    )
    return trace.set_span_in_context(NonRecordingSpan(outer), step.context)


def plain(given: object) -> dict[str, Any]:
    """Return what a dict of any kind has in it, without running what that kind does."""
    kind: Any = dict
    return cast("dict[str, Any]", given) if type(given) is dict else dict(kind.items(given))


def text(entry: dict[str, Any], key: str) -> str | None:
    """Return what an entry says under `key` where that is a text with something in it."""
    value = entry.get(key)
    return str.__str__(value) or None if isinstance(value, str) else None
