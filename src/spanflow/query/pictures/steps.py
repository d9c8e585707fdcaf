"""The heat map of the times of steps: a line a step, a field a percentile, work apart from waiting.

The hour of the day is not in it: what makes an agent slow is in its steps and their tails.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from spanflow.query import units
from spanflow.query.pictures.canvas import (
    FAINT,
    INK,
    Picture,
    described,
    inches_of,
    label,
    library,
    nothing,
    sheet,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spanflow.query.answers import Answer
    from spanflow.query.figures import StepFigures

__all__ = ["draw_steps"]

_TITLE = "How long steps take"
_WORKING = {
    "p50_working_ms": "median",
    "avg_working_ms": "mean",
    "p95_working_ms": "p95",
    "p99_working_ms": "p99",
}
_WAITING = {"p50_waiting_ms": "median", "p95_waiting_ms": "p95"}
_ROW_IN = 0.34
_FIELD_IN = 0.95
_APART_IN = 0.35
_HEAD_IN = 0.55
_FOOT_IN = 0.3
_UNKNOWN = "#f0f2f4"
_DARK = 0.55


def draw_steps(answer: Answer[StepFigures]) -> Picture:
    """Draw how long steps work and wait; the darker, the longer, on a scale of powers of ten."""
    rows = sorted(answer.rows, key=lambda row: (-(row.p95_working_ms or 0), row.step))
    told = " · ".join(
        filter(
            None,
            [
                "Working time of visits that ended, waiting time of answered waits",
                described(answer.arguments),
            ],
        )
    )
    if not rows:
        return nothing(_TITLE, told)
    names = [f"{label(row.step)}  {units.count(row.visits)}×" for row in rows]
    waits = any(row.p50_waiting_ms is not None for row in rows)
    left = 0.4 + max(map(inches_of, names))
    panels = [("working", _WORKING)] + ([("waiting for a human", _WAITING)] if waits else [])
    fields = sum(len(panel) for _, panel in panels) * _FIELD_IN
    width = max(left + fields + _APART_IN * len(panels), 8.0)
    height = _ROW_IN * len(rows)
    figure = sheet(_TITLE, told, width, _HEAD_IN + height + _FOOT_IN)
    at = left
    for place, (word, panel) in enumerate(panels):
        wide = len(panel) * _FIELD_IN
        tall = figure.get_figheight()
        axes = figure.add_axes((at / width, _FOOT_IN / tall, wide / width, height / tall))
        _panel(axes, rows, panel)
        axes.set_title(word, loc="left", size=9, color=FAINT, pad=24)
        if place == 0:
            axes.set_yticks([line + 0.5 for line in range(len(rows))], names)
        else:
            axes.set_yticks([])
        at += wide + _APART_IN
    return Picture(figure)


def _panel(axes: Any, rows: Sequence[StepFigures], panel: dict[str, str]) -> None:
    patches = library("patches")
    colors = library("").colormaps
    values = [getattr(row, name) for row in rows for name in panel]
    known = [max(value, 0.001) for value in values if value is not None]
    norm = library("colors").LogNorm(
        min(known, default=1), max([*known, min(known, default=1) * 10])
    )
    for line, row in enumerate(rows):
        for place, name in enumerate(panel):
            value = getattr(row, name)
            part = 0.0 if value is None else 0.08 + 0.8 * float(norm(max(value, 0.001)))
            axes.add_patch(
                patches.Rectangle(
                    (place, line),
                    1,
                    1,
                    facecolor=_UNKNOWN if value is None else colors["YlGnBu"](part),
                    edgecolor="white",
                    linewidth=1.5,
                )
            )
            axes.text(
                place + 0.5,
                line + 0.5,
                units.duration(value),
                ha="center",
                va="center_baseline",
                color="white" if part > _DARK else INK if value is not None else FAINT,
            )
    axes.set_xlim(0, len(panel))
    axes.set_ylim(len(rows), 0)
    axes.xaxis.tick_top()
    axes.set_xticks([place + 0.5 for place in range(len(panel))], list(panel.values()))
    axes.tick_params(length=0, pad=4)
    axes.spines[:].set_visible(False)
