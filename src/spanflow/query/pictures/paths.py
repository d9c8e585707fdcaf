"""The Sankey diagram of the paths taken: step after step, and how those who took them ended."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any

from spanflow.query import units
from spanflow.query.pictures.canvas import (
    ENDS,
    ONE,
    Picture,
    described,
    inches_of,
    label,
    library,
    nothing,
    sheet,
)
from spanflow.query.pictures.flow import Flow, Link, Node, Way, flow_of

if TYPE_CHECKING:
    from spanflow.query.answers import Answer
    from spanflow.query.rows import Journey, PathTaken

__all__ = ["draw_journeys", "draw_paths"]

_TITLE = "Paths taken"
_FLOW = "#9db2c6"
_MOST_COLUMNS = 8
_MOST_NODES = 8
_NODE_IN = 0.12
_SLOT_IN = 0.21
_GAP_IN = 0.1
_MARGIN_IN = 0.3
_HEAD_IN = 0.15
_LABEL_PT = 8.5
_BANDS_IN = 2.4
_COLUMN_IN = (1.3, 2.0)
_LAST_IN = 1.6


def draw_paths(answer: Answer[PathTaken]) -> Picture:
    """Draw the ways that were taken; the width of a band is how many took it."""
    ways = [
        Way(
            row.path,
            row.engagements,
            {"completed": row.completed, "abandoned": row.abandoned, "failed": row.failed},
        )
        for row in answer
    ]
    return _draw(ways, len(answer), described(answer.arguments))


def draw_journeys(answer: Answer[Journey]) -> Picture:
    """Draw the ways that these engagements took."""
    ways = [Way(_without_repeats(row.path), 1, {row.status: 1}) for row in answer]
    return _draw(ways, len({way.path for way in ways}), described(answer.arguments))


def _without_repeats(path: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(step for step, _ in groupby(path))


def _draw(ways: list[Way], paths: int, chosen: str) -> Picture:
    flow = flow_of(ways, _MOST_COLUMNS, _MOST_NODES)
    everyone = sum(way.engagements for way in ways)
    told = " · ".join(
        [
            _many(everyone, "engagement"),
            _many(paths, "path"),
            "a band is as wide as many took it",
            *filter(None, [chosen]),
        ]
    )
    if not flow.columns:
        return nothing(_TITLE, told)
    height = max(_height(column) for column in flow.columns) + _BANDS_IN
    longest = max(
        inches_of(f"{node.name} {node.weight:,}", _LABEL_PT)
        for column in flow.columns
        for node in column
    )
    least, most = _COLUMN_IN
    step_in = min(max(longest + _NODE_IN + 0.15, least), most)
    width = max(_MARGIN_IN + step_in * (len(flow.columns) - 1) + _LAST_IN, 8.0)
    figure = sheet(_TITLE, told, width, _HEAD_IN + height + _MARGIN_IN)
    tall = figure.get_figheight()
    axes = figure.add_axes((0, _MARGIN_IN / tall, 1, height / tall))
    axes.set_xlim(0, width)
    axes.set_ylim(0, height)
    axes.axis("off")
    tops, scale = _laid_out(flow, height)
    _bands(axes, tops, scale, step_in)
    for node, top in tops.items():
        _node(axes, node, top, scale, step_in)
    return Picture(figure)


def _many(count: int, word: str) -> str:
    return f"{units.count(count)} {word}{'' if count == 1 else 's'}"


def _height(column: list[Node]) -> float:
    return len(column) * (_SLOT_IN + _GAP_IN)


def _laid_out(flow: Flow, height: float) -> tuple[dict[Node, float], float]:
    """Return the top of every node, and how high one engagement is."""
    low, high = 0.0, height
    for _ in range(60):
        scale = (low + high) / 2
        fits = all(
            # A small node keeps the room for its label.
            sum(max(node.weight * scale, _SLOT_IN) + _GAP_IN for node in column) <= height
            for column in flow.columns
        )
        low, high = (scale, high) if fits else (low, scale)
    scale = low
    tops: dict[Node, float] = {}
    for column in flow.columns:
        top = height
        for node in column:
            slot = max(node.weight * scale, _SLOT_IN)
            tops[node] = top - (slot - node.weight * scale) / 2
            top -= slot + _GAP_IN
    return tops, scale


def _bands(axes: Any, tops: dict[Node, float], scale: float, step_in: float) -> None:
    leaves: dict[Link, float] = {}
    enters: dict[Link, float] = {}
    for node, top in tops.items():
        at = top
        for link in sorted(node.goes, key=lambda one: -tops[one.target]):
            leaves[link] = at
            at -= link.weight * scale
        at = top
        for link in sorted(node.comes, key=lambda one: -tops[one.source]):
            enters[link] = at
            at -= link.weight * scale
    for link, top in leaves.items():
        axes.add_patch(
            _band(
                (_MARGIN_IN + link.source.column * step_in + _NODE_IN, top),
                (_MARGIN_IN + link.target.column * step_in, enters[link]),
                link.weight * scale,
                ENDS[link.target.end] if link.target.end else _FLOW,
            )
        )


def _band(begin: tuple[float, float], end: tuple[float, float], high: float, color: str) -> Any:
    (left, top), (right, low) = begin, end
    middle = (left + right) / 2
    path = library("path").Path
    points = [
        (left, top),
        (middle, top),
        (middle, low),
        (right, low),
        (right, low - high),
        (middle, low - high),
        (middle, top - high),
        (left, top - high),
        (left, top),
    ]
    curve = [path.CURVE4] * 3
    codes = [path.MOVETO, *curve, path.LINETO, *curve, path.CLOSEPOLY]
    return library("patches").PathPatch(
        path(points, codes), facecolor=color, alpha=0.45, linewidth=0
    )


def _node(axes: Any, node: Node, top: float, scale: float, step_in: float) -> None:
    left = _MARGIN_IN + node.column * step_in
    high = node.weight * scale
    patches = library("patches")
    axes.add_patch(
        patches.Rectangle(
            (left, top - high),
            _NODE_IN,
            high,
            color=ENDS[node.end] if node.end else ONE,
            linewidth=0,
        )
    )
    weight = units.count(node.weight)
    room = step_in - _NODE_IN - 0.12 - inches_of(f" {weight}", _LABEL_PT)
    name = label(node.name, max(int(room / inches_of("m", _LABEL_PT)), 4))
    axes.text(
        left + _NODE_IN + 0.05,
        top - high / 2,
        f"{name} {weight}",
        va="center_baseline",
        size=_LABEL_PT,
        style="italic" if node.end else "normal",
        bbox={"facecolor": "white", "alpha": 0.72, "edgecolor": "none", "pad": 0.8},
    )
