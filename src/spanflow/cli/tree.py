"""One engagement as a tree for the terminal: turns, steps, and what happened in them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from rich.text import Text
from rich.tree import Tree

from spanflow.cli import terminal
from spanflow.model import Engagement, Event, LlmCall, Step, ToolCall, Turn, Wait

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["tree"]

_QUIET = "dim"
_LONGEST_PAYLOAD = 200
# A fork's own line says that all its calls are.
_REPEATED = {"replay": "replayed", "retry": "retried"}


def tree(engagement: Engagement) -> Tree:
    """Return an engagement, with its history, as a tree of lines."""
    root = Tree(_headline(engagement), guide_style=_QUIET)
    for name, value in _about(engagement):
        root.add(_line((f"{name}: ", _QUIET), (value, "")))
    names = dict(_named(engagement.history))
    for number, turn in enumerate(engagement.history, start=1):
        _grow(root.add(_turn_line(number, turn, names)), turn)
    return root


def _named(parents: Iterable[Turn | Step]) -> Iterable[tuple[str, str]]:
    """Return the path of every step by its id."""
    for parent in parents:
        for step in parent.steps:
            yield step.step_id, step.path or step.name
        yield from _named(parent.steps)


def _grow(branch: Tree, parent: Turn | Step) -> None:
    """Add what happened inside a turn or a step, in the order it happened."""
    for item in _in_order((*parent.steps, *parent.calls, *parent.events)):
        match item:
            case Step():
                _grow(branch.add(_step_line(item)), item)
            case LlmCall():
                branch.add(_llm_line(item))
            case ToolCall():
                branch.add(_tool_line(item))
            case Event() if item.kind == "wait":
                if isinstance(item.payload, dict) and item.payload.get("payload") is not None:
                    branch.add(
                        _line(("asked ", "magenta"), (_brief(item.payload["payload"]), _QUIET))
                    )
            case Event():
                branch.add(_event_line(item))


def _in_order(
    items: Sequence[Step | LlmCall | ToolCall | Event],
) -> Iterable[Step | LlmCall | ToolCall | Event]:
    """Sort by time; what has no time comes last, as it stands."""

    def key(item: Step | LlmCall | ToolCall | Event) -> tuple[bool, float]:
        moment = item.occurred_at if isinstance(item, Event) else item.started_at
        # Naive times are UTC, and only their order matters here.
        return moment is None, moment.timestamp() if moment else 0.0

    return sorted(items, key=key)


def _headline(engagement: Engagement) -> Text:
    return _line(
        (engagement.name or "unnamed", "bold"),
        (f" {engagement.engagement_id} ", _QUIET),
        terminal.status_text(engagement.status),
    )


def _about(engagement: Engagement) -> Iterable[tuple[str, str]]:
    one = engagement
    yield (
        "started",
        f"{one.started_at:%Y-%m-%d %H:%M:%S} UTC" if one.started_at else terminal.UNKNOWN,
    )
    working, waiting = terminal.duration(one.working_ms), terminal.duration(one.waiting_ms)
    yield "time", f"{working} working" + (f", {waiting} waiting" if one.waiting_ms else "")
    yield (
        "usage",
        " · ".join(
            [
                _tokens(one.usage.input_tokens, one.usage.output_tokens, one.usage.total_tokens),
                *([terminal.cost(one.usage.cost_usd)] if one.usage.cost_usd is not None else []),
                _of(one.llm_calls, "model call"),
                _of(one.tool_calls, "tool call"),
                *([_of(one.errors, "error")] if one.errors else []),
            ]
        ),
    )
    again = one.repeated
    spent = (
        (again.replayed_tokens, "replayed"),
        (again.retried_tokens, "retried"),
        (again.forked_tokens, "in forks"),
    )
    if any(tokens for tokens, _ in spent):
        yield (
            "of these",
            " · ".join(f"{terminal.count(tokens)} tokens {how}" for tokens, how in spent if tokens),
        )
    for name in (
        "goal",
        "dropped_at",
        "abandon_reason",
        "user_id",
        "session_id",
        "conversation_id",
    ):
        value = getattr(one, name)
        if value is not None:
            yield name.replace("_", " "), str(value)
    if one.metadata:
        yield "metadata", json.dumps(one.metadata, ensure_ascii=False)


def _turn_line(number: int, turn: Turn, names: Mapping[str, str]) -> Text:
    origin = names.get(turn.origin_step_id or "")
    marks = [
        *([f"left from {origin}"] if origin else []),
        *([turn.resolution] if turn.resolution else []),
        *map(_waited, turn.waits),
    ]
    return _line(
        (f"turn {number} ", "bold"),
        (f"{turn.kind} " if turn.kind else "", _QUIET),
        terminal.status_text(turn.outcome or "running"),
        *_facts(
            turn.duration_ms if turn.ended_at else None,
            turn.usage.total_tokens,
            turn.usage.cost_usd,
        ),
        *_marked(marks),
        *_failure(turn.error_type, turn.error_message if not turn.steps else None),
    )


def _step_line(step: Step) -> Text:
    marks = [
        *(["global"] if step.is_global else []),
        *(["run again"] if step.replayed else []),
        *([f"visit {step.visit}"] if step.visit is not None and step.visit > 1 else []),
        *([f"{step.attempts} attempts"] if step.attempts is not None and step.attempts > 1 else []),
        *map(_waited, step.waits),
    ]
    return _line(
        (f"{step.name} ", "bold"),
        terminal.status_text(step.status),
        *_facts(
            step.duration_ms if step.ended_at else None,
            step.usage.total_tokens,
            step.usage.cost_usd,
        ),
        *_marked(marks),
        *_failure(step.error_type, step.error_message if not step.steps else None),
    )


def _waited(wait: Wait) -> str:
    waited = "waits" if wait.is_open else f"waited {terminal.duration(wait.waited_ms)}"
    if wait.kind != "interrupt":
        return f"{waited} {wait.kind} {wait.path or wait.step_name or 'a step'}"
    return f"{waited} for {wait.label}" if wait.label and wait.label != "wait" else waited


def _marked(marks: Iterable[str]) -> Iterable[tuple[str, str]]:
    for mark in marks:
        yield f" · {mark}", "magenta" if mark.startswith("wait") else "cyan"


def _llm_line(call: LlmCall) -> Text:
    usage = call.usage
    return _line(
        (f"{call.operation or 'chat'} ", "blue"),
        (call.model or "unknown model", ""),
        (" · " + _tokens(usage.input_tokens, usage.output_tokens, usage.total_tokens), _QUIET),
        (f" · {terminal.cost(usage.cost_usd)}" if usage.cost_usd is not None else "", _QUIET),
        (f" · {terminal.duration(call.duration_ms)}", _QUIET),
        (f" · {_REPEATED[call.repeats]}" if call.repeats in _REPEATED else "", "cyan"),
        (f" · not counted: {call.not_counted_because}" if not call.counted else "", "yellow"),
        (" error" if call.status == "error" else "", "bold red"),
    )


def _tool_line(call: ToolCall) -> Text:
    given = "" if call.arguments is None else _brief(call.arguments)
    answered = "" if call.result is None else f" → {_brief(call.result)}"
    return _line(
        ("tool ", "blue"),
        (f"{call.name}", ""),
        (f" · {terminal.duration(call.duration_ms)}", _QUIET),
        (f" · {_REPEATED[call.repeats]}" if call.repeats in _REPEATED else "", "cyan"),
        *_failure(call.error_type, None),
        (f" {given}{answered}".rstrip(), _QUIET),
    )


def _event_line(event: Event) -> Text:
    style = "bold red" if event.kind == "error" else "yellow"
    payload = "" if event.payload is None else f" {_brief(event.payload)}"
    name = "" if event.name is None or event.name == event.kind else event.name
    return _line((f"{event.kind} ", style), (name, ""), (payload, _QUIET))


def _facts(ms: float | None, tokens: int | None, usd: float | None) -> Iterable[tuple[str, str]]:
    if ms is not None:
        yield f" · {terminal.duration(ms)}", _QUIET
    if tokens:
        yield f" · {terminal.count(tokens)} tokens", _QUIET
    if usd:
        yield f" · {terminal.cost(usd)}", _QUIET


def _failure(error_type: str | None, message: str | None) -> Iterable[tuple[str, str]]:
    if error_type is not None:
        yield f" {error_type}" + (f": {message}" if message else ""), "red"


def _tokens(given: int | None, written: int | None, total: int | None) -> str:
    if given is None and written is None:
        return f"{terminal.count(total)} tokens" if total is not None else "tokens unknown"
    return f"{terminal.count(given)} → {terminal.count(written)} tokens"


def _of(number: int, thing: str) -> str:
    return f"{terminal.count(number)} {thing}{'' if number == 1 else 's'}"


def _brief(value: object) -> str:
    written = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return written if len(written) <= _LONGEST_PAYLOAD else written[: _LONGEST_PAYLOAD - 1] + "…"


def _line(*parts: tuple[str, str] | Text) -> Text:
    """Join parts into one line that is cut, not wrapped, where the terminal ends."""
    line = Text(no_wrap=True, overflow="ellipsis")
    for part in parts:
        line.append_text(part if isinstance(part, Text) else Text(terminal.plain(part[0]), part[1]))
    return line
