"""One engagement whole: its turns, steps, calls, waits and events, made of rows, inside each other.

It asks the ledger's views through whatever it is given, and opens nothing.
"""

from __future__ import annotations

import json
from collections import defaultdict
from operator import attrgetter
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, cast

from spanflow.model import Event, LlmCall, Repeated, Step, TokenUsage, ToolCall, Turn, Wait
from spanflow.query.statement import statement

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from pydantic import BaseModel

    Row = dict[str, Any]
    Ask = Callable[[str, Mapping[str, object]], Iterable[Row]]

__all__ = ["history_of", "model_of"]

_M = TypeVar("_M", bound="BaseModel")
_T = TypeVar("_T")
# Things by the turn and the step they happened in.
_Placed: TypeAlias = "dict[tuple[str | None, str | None], tuple[_T, ...]]"
# One engagement, and between which times its rows lie.
_Part: TypeAlias = "dict[str, Any]"
_JSON_COLUMNS = frozenset({"metadata", "payload", "tools_available", "arguments", "result"})


def history_of(ask: Ask, engagement_id: str) -> tuple[Turn, ...]:
    """Return the turns of one engagement, oldest first, with all that is inside them.

    Args:
        ask: Answers a query of the ledger's views.
        engagement_id: Its whole id.
    """
    meant = {"engagement_id": engagement_id}
    # Rows are found by time: without bounds each question would read the whole ledger.
    (bounds,) = ask(statement("bounds"), meant)
    part = {**meant, **bounds}
    calls = _calls(ask, part)
    events = _by_place(ask, Event, "events", part)
    waits = _by_place(ask, Wait, "waits", part)
    steps = _steps(ask, part, calls, events, waits)
    return tuple(
        model_of(
            Turn,
            row,
            steps=steps.get(row["turn_id"], ()),
            # No step waits at a breakpoint.
            waits=waits.get((row["turn_id"], None), ()),
            calls=calls.get((row["turn_id"], None), ()),
            events=events.get((row["turn_id"], None), ()),
        )
        for row in ask(statement("turns"), meant)
    )


def _steps(
    ask: Ask,
    part: _Part,
    calls: _Placed[LlmCall | ToolCall],
    events: _Placed[Event],
    waits: _Placed[Wait],
) -> dict[str, tuple[Step, ...]]:
    """Return the top steps of each turn, the others inside them."""
    rows = _rows(ask, "steps", part)
    known = {row["step_id"] for row in rows}
    inside: defaultdict[tuple[str, str | None], list[Row]] = defaultdict(list)
    for row in rows:
        parent = row["parent_step_id"]
        inside[row["turn_id"], parent if parent in known else None].append(row)

    def grow(turn_id: str, parent: str | None) -> tuple[Step, ...]:
        return tuple(
            model_of(
                Step,
                row,
                waits=waits.get((turn_id, row["step_id"]), ()),
                steps=grow(turn_id, row["step_id"]),
                calls=calls.get((turn_id, row["step_id"]), ()),
                events=events.get((turn_id, row["step_id"]), ()),
            )
            for row in inside.pop((turn_id, parent), ())
        )

    turns = {turn: grow(turn, None) for turn in dict.fromkeys(row["turn_id"] for row in rows)}
    # A malformed record may name a parent in another turn, or one inside itself: such steps are
    # shown at the top.
    for turn_id, parent in list(inside):
        turns[turn_id] = (*turns[turn_id], *grow(turn_id, parent))
    return turns


def _calls(ask: Ask, part: _Part) -> _Placed[LlmCall | ToolCall]:
    placed: _Placed[LlmCall | ToolCall] = {**_by_place(ask, LlmCall, "llm_calls", part)}
    for place, tools in _by_place(ask, ToolCall, "tool_calls", part).items():
        together = (*placed.get(place, ()), *tools)
        timed = [call for call in together if call.started_at is not None]
        rest = [call for call in together if call.started_at is None]
        placed[place] = (*sorted(timed, key=attrgetter("started_at")), *rest)
    return placed


def _by_place(ask: Ask, model: type[_M], file: str, part: _Part) -> _Placed[_M]:
    placed: defaultdict[tuple[str | None, str | None], list[_M]] = defaultdict(list)
    for row in _rows(ask, file, part):
        placed[row["turn_id"], row["step_id"]].append(model_of(model, row))
    return {place: tuple(found) for place, found in placed.items()}


def _rows(ask: Ask, file: str, part: _Part) -> list[Row]:
    return list(ask(statement(file), part))


def model_of(model: type[_M], row: Row, **more: object) -> _M:
    """Make a model of a row; columns that are null take the model's default."""
    values = {name: _read(name, value) for name, value in row.items() if value is not None}
    for name, part in (("usage", TokenUsage), ("repeated", Repeated)):
        if name in model.model_fields:
            values[name] = {one: values.get(one) for one in part.model_fields}
    # A wrong value of a stranger's must not hide a whole engagement: it was judged when it was
    # ingested.
    return model.model_validate({**values, **more})


def _read(name: str, value: object) -> object:
    if name not in _JSON_COLUMNS or not isinstance(value, str):
        return value
    try:
        read = cast("object", json.loads(value))
    except ValueError:
        return value
    return read
