"""What a node says of itself in the state it returns, by an older convention.

``tool_calls``, ``llm_calls``, ``events`` and ``extraction`` are names that anybody may use for
anything: what does not have the shape is the user's own, is left alone, and nothing is recorded of
it. What the state held already was told before. Nothing here changes what a node returned.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final, cast
from weakref import WeakKeyDictionary

from langgraph.types import Command
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext

from spanflow.capture.events import Event
from spanflow.capture.payload import clean, clean_path, free_text, json_payload, tail_of
from spanflow.capture.providers import provider_name
from spanflow.guard import diagnose, guarded
from spanflow.instrument.plain import gate, marks
from spanflow.matching import same_calls
from spanflow.tally import Call, Usage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opentelemetry.context import Context

    from spanflow.capture.call import OpenCall
    from spanflow.capture.step import Step
    from spanflow.capture.turn import Turn
    from spanflow.instrument.calls import Place

__all__ = ["note_given", "read"]

_KEYS: Final = ("llm_calls", "tool_calls", "events", "extraction")
_SCOPE: Final = "state"
_MOST_KNOWN: Final = 10_000
"""Entries known again in one turn; past that nothing is read, so that nothing is told twice."""
_REQUESTS: Final = {"tool_call", "invalid_tool_call", "function"}
"""What LangChain and providers call a tool's call that a model asks for; none has been made."""
_EVENT: Final = {"kind", "name", "payload"}
_SPENT: Final = frozenset(Usage.__slots__) - {"flags"}
_EXTRACTION: Final = {"schema", "name", "values", "valid", "error"}


class _Known:
    """What one turn has seen: entries (held, so that an id stays one's own) and nested steps."""

    __slots__ = ("entries", "parents")

    def __init__(self) -> None:
        self.entries: dict[int, object] = {}
        self.parents: dict[str, str] = {}

    def is_new(self, entry: object) -> bool:
        """Whether an entry is seen for the first time."""
        if id(entry) in self.entries:
            return False
        if len(self.entries) >= _MOST_KNOWN:
            diagnose("state_keys.dropped", f"a turn's state told more than {_MOST_KNOWN} entries")
            return False
        self.entries[id(entry)] = entry
        return True

    def is_within(self, step_id: str | None, outer: str) -> bool:
        """Whether a step is another, or runs inside it."""
        while step_id is not None and step_id != outer:
            step_id = self.parents.get(step_id)
        return step_id is not None


_known: WeakKeyDictionary[Turn, _Known] = WeakKeyDictionary()


@guarded("state_keys.given")
def note_given(place: Place | None, state: object) -> None:
    """Remember what stands in the state that a node is given: it was told before, or is no news.

    Args:
        place: Where the run that begins stands; one inside a node is given no state.
        state: What it is given.
    """
    if place is None or place.step_key is None or place.scope is None or place.scope.turn is None:
        return
    known = _of(place.scope.turn)
    given: Any = state
    for key in _KEYS:
        value: Any = given.get(key) if isinstance(state, dict) else getattr(given, key, None)
        for entry in _entries(value):
            known.is_new(entry)


@guarded("state_keys.read")
def read(step: Step, outputs: object) -> None:
    """Record on `step` what its node said of itself.

    Args:
        step: It is about to end.
        outputs: What the node returned: an update of the state, a command, or a list of these.
    """
    known = _of(step.frame.turn)
    if step.parent is not None and len(known.parents) < _MOST_KNOWN:
        known.parents[step.span_id] = step.parent.span_id
    told: dict[str, list[dict[str, Any]]] = {"llm": [], "tool": []}
    for update in _updates(outputs):
        for key in _KEYS:
            for entry in _entries(update.get(key)):
                if known.is_new(entry):
                    _sort(step, key, entry, told)
    for kind, entries in told.items():
        if entries:
            _record_calls(step, known, kind, entries)


def _of(turn: Turn) -> _Known:
    with turn.lock:
        known = _known.get(turn)
        if known is None:
            known = _known[turn] = _Known()
        return known


def _updates(outputs: object) -> Iterator[dict[str, Any]]:
    """Yield the updates of the state in what a node returned."""
    given = cast("list[object]", outputs) if type(outputs) in (list, tuple) else [outputs]
    for part in given:
        update: Any = cast("Any", part).update if isinstance(part, Command) else part
        if isinstance(update, dict):
            yield cast("dict[str, Any]", update)
        elif isinstance(part, Command) and type(update) in (list, tuple):
            for pair in update:
                if type(pair) is tuple and len(pair) == 2 and isinstance(pair[0], str):  # pyright: ignore[reportUnknownArgumentType]  # noqa: PLR2004 - a pair
                    yield {pair[0]: pair[1]}


def _entries(value: object) -> Iterator[dict[str, Any]]:
    """Yield what may be entries: the dicts of a list, or one dict by itself."""
    given = cast("list[object]", value) if isinstance(value, list | tuple) else [value]
    for entry in given:
        if isinstance(entry, dict):
            yield cast("dict[str, Any]", entry)


def _sort(
    step: Step, key: str, entry: dict[str, Any], told: dict[str, list[dict[str, Any]]]
) -> None:
    """Record an entry that has the shape of its key, or put a call to those to be recorded."""
    if key == "llm_calls":
        if _text(entry, "model"):
            told["llm"].append(entry)
    elif key == "tool_calls":
        if _text(entry, "name") and _text(entry, "type") not in _REQUESTS:
            told["tool"].append(entry)
    elif key == "extraction":
        _record_extraction(step, entry)
    elif entry.keys() <= _EVENT and (kind := _text(entry, "kind")):
        payload = entry.get("payload")
        if kind in ("llm_call", "tool_call", "extraction") and isinstance(payload, dict):
            inner = "extraction" if kind == "extraction" else f"{kind}s"
            _sort(step, inner, cast("dict[str, Any]", payload), told)
        else:
            _record_event(step, kind, _text(entry, "name"), payload)


def _record_event(step: Step, kind: str, name: str | None, payload: object) -> None:
    turn, now_ns = step.frame.turn, time.time_ns()
    event: dict[str, Any]
    limit = turn.runtime.payload_bytes
    if kind == "goal" and name:
        turn.reach(clean_path(name), now_ns, {"step": step.path})
    elif kind == "error":
        details: dict[str, Any] = payload if isinstance(payload, dict) else {"message": payload}  # pyright: ignore[reportUnknownVariableType]
        event = {
            "message": free_text(details.get("message", ""), limit),
            "stack": tail_of(details.get("stack", ""), limit),
        }
        step.add_event(Event("error", clean(name or "error"), now_ns, event))
    elif kind == "log":
        kept = json_payload(payload, limit) if payload is not None else None
        step.add_event(Event("log", clean(name or "log"), now_ns, kept))
    else:
        event = {"kind": clean(kind)}
        if payload is not None:
            event["payload"] = json_payload(payload, limit)
        step.add_event(Event("log", clean(name or kind), now_ns, event))


def _record_extraction(step: Step, entry: dict[str, Any]) -> None:
    schema = entry.get("schema") or _text(entry, "name")
    if not entry.keys() <= _EXTRACTION or "values" not in entry:
        return
    if not isinstance(schema, str | dict | type):
        return
    error, valid = entry.get("error"), entry.get("valid")
    marks.extraction(
        schema,
        entry.get("values"),
        valid=valid if isinstance(valid, bool) else error is None,
        error=error,
        step_id=step.span_id,
    )


def _record_calls(step: Step, known: _Known, kind: str, entries: list[dict[str, Any]]) -> None:
    """Record the calls that nobody has reported from this step, or from steps inside it."""
    turn = step.frame.turn
    seen = [
        call
        for call in [*step.calls.reported(kind), *turn.calls.reported(kind)]
        if known.is_within(call.step_id, step.span_id)
    ]
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


def _claim(step: Step, kind: str, number: str, entry: dict[str, Any]) -> Call:
    told: dict[str, Any] = {}
    if kind == "llm":
        usage = entry.get("usage")
        told = {**entry, **cast("dict[str, Any]", usage)} if isinstance(usage, dict) else entry
    return Call(
        span_id=number,
        parent_span_id=None,
        scope=_SCOPE,
        step_id=None,  # its own or one inside it
        model=_text(entry, "model" if kind == "llm" else "name"),
        response_id=_text(entry, "response_id" if kind == "llm" else "call_id"),
        started_ns=step.started_ns,
        ended_ns=time.time_ns(),
        usage=Usage.of(**{key: told[key] for key in told if key in _SPENT}),
    )


def _record_call(
    step: Step, kind: str, entry: dict[str, Any], usage: Usage, context: Context
) -> None:
    spans = gate.spans(step.frame.runtime)
    failure = entry.get("error")
    if kind == "llm":
        provider = _text(entry, "provider")
        call = spans.inference(
            step.scope,
            context,
            provider=provider_name(provider) if provider else "unknown",
            model=clean(entry["model"]),
        )
        told: Any = call.invocation
        told.input_tokens, told.output_tokens = usage.input_tokens, usage.output_tokens
        response_id = _text(entry, "response_id")
        if response_id:
            told.response_id = call.fields["response_id"] = clean(response_id)
        _end(call, usage, failure)
        return
    call_id = _text(entry, "call_id")
    call = spans.tool(
        step.scope,
        context,
        name=clean(entry["name"]),
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


def _text(entry: dict[str, Any], key: str) -> str | None:
    """Return what an entry says under `key` where that is a text with something in it."""
    value = entry.get(key)
    return value if isinstance(value, str) and value else None
