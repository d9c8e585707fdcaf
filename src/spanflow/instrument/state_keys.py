"""What a node says of itself in the state it returns, by an older convention.

``tool_calls``, ``llm_calls``, ``events`` and ``extraction`` are names that anybody may use for
anything: what does not have the shape is the user's own, is left alone, and nothing is recorded of
it. What the state held already was told before. Nothing here changes what a node returned.
"""

from __future__ import annotations

import inspect
import time
from types import MemberDescriptorType
from typing import TYPE_CHECKING, Any, Final, cast
from weakref import WeakKeyDictionary

from langgraph.types import Command

from spanflow.capture.events import Event
from spanflow.capture.payload import (
    clean,
    clean_path,
    free_text,
    json_payload,
    tail_of,
)
from spanflow.guard import diagnose, guarded
from spanflow.instrument.plain import marks
from spanflow.instrument.state_calls import plain, record_calls, text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from spanflow.capture.step import Step
    from spanflow.capture.turn import Turn
    from spanflow.instrument.calls import Place

__all__ = ["note_given", "read"]

_KEYS: Final = ("llm_calls", "tool_calls", "events", "extraction")
_CALLS: Final = {"llm_calls": "llm", "tool_calls": "tool"}
_IN_EVENTS: Final = {"llm_call", "tool_call", "extraction"}
"""Kinds of events whose payload is an entry of another key."""
_MOST_KNOWN: Final = 10_000
"""Entries known again in one turn; past that nothing is read, so that nothing is told twice."""
_REQUESTS: Final = {"tool_call", "invalid_tool_call", "function"}
"""What LangChain and providers call a tool's call that a model asks for; none has been made."""
_SET: Final = "__pydantic_fields_set__"
_EVENT: Final = {"kind", "name", "payload"}
_EXTRACTION: Final = {"schema", "name", "values", "valid", "error"}


class _Known:
    """The entries that one turn has seen, held so that an id stays one's own."""

    __slots__ = ("entries",)

    def __init__(self) -> None:
        self.entries: dict[int, object] = {}

    def is_new(self, entry: object) -> bool:
        """Whether an entry is seen for the first time."""
        if id(entry) in self.entries:
            return False
        if len(self.entries) >= _MOST_KNOWN:
            diagnose("state_keys.dropped", f"a turn's state told more than {_MOST_KNOWN} entries")
            return False
        self.entries[id(entry)] = entry
        return True


class _Told:
    """The calls that one node tells: those under keys of their own, and those among its events."""

    __slots__ = ("calls", "in_events", "known")

    def __init__(self, known: _Known) -> None:
        self.known = known
        self.calls: dict[str, list[dict[str, Any]]] = {"llm": [], "tool": []}
        self.in_events: dict[str, list[dict[str, Any]]] = {"llm": [], "tool": []}


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
    for key in _KEYS:
        for entry in _entries(_held(state, key)):
            known.is_new(entry)


@guarded("state_keys.read")
def read(step: Step, outputs: object) -> None:
    """Record on `step` what its node said of itself.

    Args:
        step: It is about to end.
        outputs: What the node returned: an update of the state, a command, or a list of these.
    """
    told = _Told(_of(step.frame.turn))
    for update in _updates(outputs):
        for key in _KEYS:
            for entry in _entries(update.get(key)):
                if told.known.is_new(entry):
                    _read_entry(step, key, entry, told)
    for kind, calls in told.calls.items():
        if calls or told.in_events[kind]:
            record_calls(step, kind, calls, told.in_events[kind])


def _of(turn: Turn) -> _Known:
    with turn.lock:
        known = _known.get(turn)
        if known is None:
            known = _known[turn] = _Known()
        return known


def _updates(outputs: object) -> Iterator[dict[str, Any]]:
    """Yield the updates of the state in what a node returned, as far as our keys go."""
    given = cast("list[object]", outputs) if type(outputs) in (list, tuple) else [outputs]
    for part in given:
        update: Any = cast("Any", part).update if isinstance(part, Command) else part
        if isinstance(part, Command) and type(update) in (list, tuple):
            for pair in update:
                if type(pair) is tuple and len(pair) == 2 and isinstance(pair[0], str):  # pyright: ignore[reportUnknownArgumentType]  # noqa: PLR2004 - a pair
                    yield {pair[0]: pair[1]}
        elif _is_state(update):
            yield {key: _held(update, key) for key in _KEYS if _is_told(update, key)}


def _is_state(update: object) -> bool:
    """Whether this is a dict, or an instance of a pydantic model or a dataclass."""
    kind = type(update)
    return isinstance(update, dict) or hasattr(kind, _SET) or hasattr(kind, "__dataclass_fields__")


def _is_told(update: object, key: str) -> bool:
    """Whether a field says anything: a pydantic model's that was not set has its class's words."""
    kind = type(update)
    if not hasattr(kind, _SET) or key in object.__getattribute__(update, _SET):
        return True
    default: object = getattr(getattr(kind, "model_fields", {}).get(key), "default", None)
    return not (isinstance(default, list | tuple | dict) and default)


def _held(state: object, key: str) -> object:
    """Return what a state has under a key: as it lies there, for no code of the user's may run."""
    if isinstance(state, dict):
        return plain(cast("object", state)).get(key)
    try:
        fields = object.__getattribute__(state, "__dict__")
    except AttributeError:
        slot = inspect.getattr_static(type(state), key, None)
        return slot.__get__(state) if isinstance(slot, MemberDescriptorType) else None
    return fields.get(key) if type(fields) is dict else None  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]


def _entries(value: object) -> Iterator[dict[str, Any]]:
    """Yield what may be entries: the dicts of a list, or one dict by itself."""
    given: Any = [value]
    if isinstance(value, list | tuple):
        kind: Any = list if isinstance(value, list) else tuple
        given = kind.__iter__(value)  # for no code of the user's may run
    for entry in given:
        if isinstance(entry, dict):
            yield cast("dict[str, Any]", entry)


@guarded("state_keys.entry")
def _read_entry(step: Step, key: str, given: dict[str, Any], told: _Told) -> None:
    """Record an entry that has the shape of its key, or put a call to those to be recorded."""
    entry = plain(given)
    if key in _CALLS:
        _sort_call(_CALLS[key], entry, told.calls)
    elif key == "extraction":
        _record_extraction(step, entry)
    elif entry.keys() <= _EVENT and (kind := text(entry, "kind")):
        payload = entry.get("payload")
        if kind in _IN_EVENTS and isinstance(payload, dict):
            if told.known.is_new(cast("object", payload)):
                inner = plain(cast("object", payload))
                if kind == "extraction":
                    _record_extraction(step, inner)
                else:
                    _sort_call(_CALLS[f"{kind}s"], inner, told.in_events)
        else:
            _record_event(step, kind, text(entry, "name"), payload)


def _sort_call(kind: str, entry: dict[str, Any], calls: dict[str, list[dict[str, Any]]]) -> None:
    named = text(entry, "model" if kind == "llm" else "name")
    if named and (kind == "llm" or text(entry, "type") not in _REQUESTS):
        calls[kind].append(entry)


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
    schema = entry.get("schema") or text(entry, "name")
    if not entry.keys() <= _EXTRACTION or "values" not in entry:
        return
    if not isinstance(schema, str | dict | type):
        return
    error = entry.get("error")
    valid = entry.get("valid", error is None)
    marks.extraction(
        schema,
        entry.get("values"),
        valid=valid.lower() not in ("", "false") if isinstance(valid, str) else bool(valid),
        error=error,
        step_id=step.span_id,
    )
