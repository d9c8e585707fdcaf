"""Tokens and cost: over time as stacked columns, and otherwise as bars, the largest first."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from spanflow.query import units
from spanflow.query.pictures.canvas import (
    FAINT,
    LEGEND_IN,
    LINE,
    MANY,
    ONE,
    REST,
    Picture,
    described,
    inches_of,
    label,
    legend,
    library,
    nothing,
    sheet,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from spanflow.query.answers import Answer
    from spanflow.query.figures import Usage

    # What is stacked, by what stands on the axis and by part.
    Stacks = dict[str, dict[Any, float]]

__all__ = ["draw_usage"]

_HOURS = {"hour": 1, "day": 24, "week": 7 * 24}
_MONTH = "month"
_PARTS = 7
_KEYS = 20
_OTHERS = "others"
_ALL = "all"
_APART = "not told apart"
_UNKNOWN = "not told"
_WIDTH_IN = 10.0
_PANEL_IN = 1.95
_ROW_IN = 0.36
_MARGIN_IN = 0.3
_TICKS = 9


@dataclass(frozen=True, slots=True)
class _Panel:
    """One of the two things that are drawn: what stands on the axis, part by part."""

    word: str
    stacks: Stacks
    said: Callable[[float], str]


def draw_usage(answer: Answer[Usage]) -> Picture:
    """Draw tokens and, where any is known, cost."""
    by = str(answer.arguments.get("by", "key"))
    split = answer.arguments.get("split")
    over_time = by in {*_HOURS, _MONTH}
    has_cost = any(row.cost_usd is not None for row in answer)
    title = f"Tokens{' and cost' if has_cost else ''} by {label(by)}"
    title += f" and {label(str(split))}" if split else ""
    told = _told(answer) + (f" · {by}s in UTC" if over_time else "")
    if not any(row.total_tokens or row.cost_usd for row in answer):
        return nothing(title, told)
    parts = _parts(answer.rows, inputs=split is None)
    tokens = _stacked(answer.rows, parts, "total_tokens", inputs=split is None)
    # Without a split, nobody tells which part of the cost was input.
    one = {row.split or _UNKNOWN: _ALL for row in answer} if split is None else parts
    cost = _stacked(answer.rows, one, "cost_usd", inputs=False) if has_cost else {}
    places = _periods(answer.rows, by) if over_time else None
    panels = [_Panel("tokens", tokens, _short if places else units.number)]
    panels += [_Panel("cost, US dollars", cost, _dollars if places else units.cost)] if cost else []
    figure = _columns(title, told, panels, places, by) if places else _bars(title, told, panels)
    legend(figure, {part: (_color(part, at), None) for at, part in enumerate(tokens)})
    return Picture(figure)


def _told(answer: Answer[Usage]) -> str:
    unpriced = sum(row.unpriced_calls or 0 for row in answer)
    silent = sum(row.calls_without_usage or 0 for row in answer)
    calls = sum(row.calls for row in answer)
    return " · ".join(
        filter(
            None,
            [
                f"{units.count(calls)} calls of models",
                f"{units.count(unpriced)} of them without a price" if unpriced else "",
                f"{units.count(silent)} told no tokens" if silent else "",
                described(answer.arguments),
            ],
        )
    )


def _parts(rows: Sequence[Usage], *, inputs: bool) -> dict[str, str]:
    """Return as what each part is drawn: the largest by themselves, the others together."""
    if inputs:
        return {"input": "input", "output": "output"}
    weights: defaultdict[str, float] = defaultdict(float)
    for row in rows:
        weights[row.split or _UNKNOWN] += row.total_tokens or 0
    ranked = sorted(weights, key=lambda name: (-weights[name], name))
    most = ranked if len(ranked) <= _PARTS else ranked[: _PARTS - 1]
    return {name: name if name in most else _OTHERS for name in ranked}


def _stacked(rows: Sequence[Usage], parts: dict[str, str], name: str, *, inputs: bool) -> Stacks:
    stacks: Stacks = {part: defaultdict(float) for part in dict.fromkeys(parts.values())}
    for row in rows:
        key = _UNKNOWN if row.key is None else row.key
        if inputs:
            stacks["input"][key] += row.input_tokens or 0
            stacks["output"][key] += row.output_tokens or 0
            told = (row.input_tokens or 0) + (row.output_tokens or 0)
            # Some providers give a total alone.
            if (row.total_tokens or 0) > told:
                stacks.setdefault(_APART, defaultdict(float))[key] += (row.total_tokens or 0) - told
        else:
            stacks[parts[row.split or _UNKNOWN]][key] += getattr(row, name) or 0
    return stacks


def _periods(rows: Sequence[Usage], by: str) -> dict[str, int] | None:
    """Return the place of each period, so that those without a call are gaps."""
    places: dict[str, int] = {}
    moments: dict[str, datetime] = {}
    for row in rows:
        if row.key is None:
            continue
        try:
            moments[row.key] = _moment(row.key)
        except ValueError:
            return None
    first = min(moments.values(), default=None)
    for key, moment in sorted(moments.items(), key=lambda one: one[1]):
        if first is None:
            break
        if by == _MONTH:
            places[key] = (moment.year - first.year) * 12 + moment.month - first.month
        else:
            places[key] = int((moment - first).total_seconds() // 3600 // _HOURS[by])
    return places or None


def _moment(key: str) -> datetime:
    return datetime.fromisoformat(f"{key}-01" if len(key) == len("2026-11") else key)


def _columns(
    title: str,
    told: str,
    panels: Sequence[_Panel],
    places: dict[str, int],
    by: str,
) -> Any:
    body = (_PANEL_IN + 0.35) * len(panels) + 0.45
    figure = sheet(title, told, _WIDTH_IN, LEGEND_IN + body)
    tall = figure.get_figheight()
    left = 0.75
    for at, panel in enumerate(panels):
        low = 0.45 + (_PANEL_IN + 0.35) * (len(panels) - 1 - at)
        axes = figure.add_axes(
            (left / _WIDTH_IN, low / tall, 1 - (left + 0.3) / _WIDTH_IN, _PANEL_IN / tall)
        )
        below: defaultdict[int, float] = defaultdict(float)
        for number, (part, values) in enumerate(panel.stacks.items()):
            spots = [(places[key], value) for key, value in values.items() if key in places]
            axes.bar(
                [spot for spot, _ in spots],
                [value for _, value in spots],
                bottom=[below[spot] for spot, _ in spots],
                width=0.82,
                color=_color(part, number),
                linewidth=0,
            )
            for spot, value in spots:
                below[spot] += value
        axes.set_title(panel.word, loc="left", size=9, color=FAINT)
        _plain_axes(axes, max(below.values(), default=0), panel.said)
        last = max(places.values())
        # One column alone would fill the whole width.
        axes.set_xlim(min(-0.6, (last - 8) / 2), max(last + 0.6, (last + 8) / 2))
        if at == len(panels) - 1:
            _ticks(axes, places, by)
        else:
            axes.set_xticks([])
    return figure


def _ticks(axes: Any, places: dict[str, int], by: str) -> None:
    formats = {"hour": "%d %b %H:%M", "day": "%d %b", "week": "week of %d %b", "month": "%b %Y"}
    each = -(-len(places) // _TICKS)
    chosen = list(places.items())[::each]
    axes.set_xticks(
        [place for _, place in chosen],
        [f"{_moment(key):{formats[by]}}" for key, _ in chosen],
    )
    axes.tick_params(axis="x", length=0, pad=5)


def _bars(title: str, told: str, panels: Sequence[_Panel]) -> Any:
    weights: defaultdict[str, float] = defaultdict(float)
    for values in panels[0].stacks.values():
        for key, value in values.items():
            weights[key] += value
    ranked = sorted(weights, key=lambda name: (-weights[name], name))
    lines = {name: min(at, _KEYS) for at, name in enumerate(ranked)}
    names = [label(name) for name in ranked[:_KEYS]]
    if len(ranked) > _KEYS:
        names.append(f"{len(ranked) - _KEYS:,} others")
    left = 0.4 + max(map(inches_of, names))
    height = max(_ROW_IN * len(names), 0.7)
    figure = sheet(title, told, _WIDTH_IN, LEGEND_IN + 0.1 + height + _MARGIN_IN)
    tall = figure.get_figheight()
    apart = 0.9
    wide = (_WIDTH_IN - left - apart * len(panels)) / len(panels)
    for at, panel in enumerate(panels):
        axes = figure.add_axes(
            (
                (left + at * (wide + apart)) / _WIDTH_IN,
                _MARGIN_IN / tall,
                wide / _WIDTH_IN,
                height / tall,
            )
        )
        begins: defaultdict[int, float] = defaultdict(float)
        for number, (part, values) in enumerate(panel.stacks.items()):
            for key, value in values.items():
                line = lines[key]
                begins[line] += value
                # All others together would dwarf the rest.
                if line == _KEYS:
                    continue
                axes.barh(
                    line,
                    value,
                    left=begins[line] - value,
                    height=0.7,
                    color=_color(part, number),
                    linewidth=0,
                )
        most = max((value for line, value in begins.items() if line < _KEYS), default=0) or 1
        for line, value in begins.items():
            spot = (value if line < _KEYS else 0) + most * 0.015
            axes.text(spot, line, panel.said(value), va="center_baseline")
        axes.set_title(panel.word, loc="left", size=9, color=FAINT)
        axes.set_xlim(0, most)
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.set_xticks([])
        axes.set_yticks(range(len(names)), names if at == 0 else [""] * len(names))
        axes.tick_params(length=0, pad=6)
        axes.spines[:].set_visible(False)
        axes.spines["left"].set_visible(True)
    return figure


def _plain_axes(axes: Any, most: float, said: Callable[[float], str]) -> None:
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.grid(axis="y", color=LINE, linewidth=0.6)
    axes.set_axisbelow(True)
    top = most * 1.06 or 1.0
    spots = library("ticker").MaxNLocator(5, integer=most >= _TICKS).tick_values(0, top)
    spots = [float(spot) for spot in spots if 0 <= spot <= top]
    axes.set_ylim(0, top)
    axes.set_yticks(spots, [said(spot) for spot in spots])
    axes.tick_params(axis="y", length=0, labelcolor=FAINT)


def _color(part: str, number: int) -> str:
    if part == _ALL:
        return ONE
    return REST if part in {_OTHERS, _APART} else MANY[number % len(MANY)]


def _short(value: float) -> str:
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e4, "k")):
        if value >= size:
            return f"{value / (1e3 if letter == 'k' else size):,.4g}{letter}"
    return units.number(value)


def _dollars(value: float) -> str:
    if value >= 1:
        return units.cost(value)
    whole, _, rest = f"{value:,.4f}".partition(".")
    return f"${whole}.{rest[:2]}{rest[2:].rstrip('0')}"
