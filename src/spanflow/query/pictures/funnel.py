"""The funnel chart: a bar a step, as long as many came, in parts by what became of them there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from spanflow.query import units
from spanflow.query.pictures.canvas import (
    ENDS,
    FAINT,
    HATCHES,
    INK,
    LEGEND_IN,
    LINE,
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
    from datetime import timedelta

    from spanflow.query.answers import Answer
    from spanflow.query.rows import FunnelStep

__all__ = ["draw_funnel"]

_TITLE = "How far engagements came"
_PARTS = ("advanced", "waiting", "active", "dropped", "failed", "interrupted")
_WORDS = {
    "advanced": "went on or completed",
    "waiting": "waiting for a human",
    "active": "at work",
    "dropped": "dropped",
    "failed": "failed",
    "interrupted": "process died",
}
_DARK = {"advanced", "failed", "interrupted"}
_ROW_IN = 0.46
_THIN_IN = 0.04
_WIDTH_IN = 10.0
_FIGURES = ("reached", "of first", "kept", "to next")
_FIGURE_IN = 0.75
_BELOW_IN = 0.3


def draw_funnel(answer: Answer[FunnelStep]) -> Picture:
    """Draw a funnel's rows."""
    rows = answer.rows
    told = _told(answer)
    if not any(row.reached for row in rows):
        return nothing(_TITLE, told)
    most = max(row.reached for row in rows)
    names = [label(row.step) for row in rows]
    above, height = LEGEND_IN, _ROW_IN * len(rows)
    figure = sheet(_TITLE, told, _WIDTH_IN, above + height + _BELOW_IN)
    tall = figure.get_figheight()
    left = 0.35 + max(map(inches_of, names))
    right = len(_FIGURES) * _FIGURE_IN + 0.45 + max(0.0, inches_of(f"{most:,}") - 0.5)
    axes = figure.add_axes(
        (left / _WIDTH_IN, _BELOW_IN / tall, (_WIDTH_IN - left - right) / _WIDTH_IN, height / tall)
    )
    _bars(axes, rows, most, _WIDTH_IN - left - right)
    axes.set_xlim(0, most)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_yticks(range(len(rows)), names)
    axes.tick_params(length=0, pad=6)
    axes.set_xticks([])
    axes.spines[:].set_visible(False)
    _figures(figure, rows, tall)
    used = [part for part in _PARTS if any(getattr(row, part) for row in rows)]
    legend(figure, {_WORDS[part]: (ENDS[part], HATCHES.get(part)) for part in used})
    return Picture(figure)


def _told(answer: Answer[FunnelStep]) -> str:
    within = cast("timedelta | None", answer.arguments.get("within"))
    mode = "each step on its own"
    if within is not None:
        mode = f"in this order, within {units.duration(within.total_seconds() * 1000)}"
    elif answer.arguments.get("ordered"):
        mode = "in this order"
    return " · ".join(filter(None, ["Engagements by step", mode, described(answer.arguments)]))


def _bars(axes: Any, rows: tuple[FunnelStep, ...], most: int, wide_in: float) -> None:
    for at, row in enumerate(rows):
        axes.barh(at, most, height=0.72, color="#f3f5f7", linewidth=0, zorder=0)
        begin = 0
        for part in _PARTS:
            value = getattr(row, part)
            if not value:
                continue
            axes.barh(
                at,
                value,
                left=begin,
                height=0.72,
                color=ENDS[part],
                hatch=HATCHES.get(part),
                edgecolor="white",
                # What is very thin would be nothing but its edge.
                linewidth=0.8 if value / most * wide_in > _THIN_IN else 0,
            )
            said = units.count(value)
            if value / most * wide_in > inches_of(said) + 0.08:
                axes.text(
                    begin + value / 2,
                    at,
                    said,
                    ha="center",
                    va="center_baseline",
                    color="white" if part in _DARK else INK,
                    bbox={"facecolor": ENDS[part], "edgecolor": "none", "pad": 1.5},
                )
            begin += value


def _figures(figure: Any, rows: tuple[FunnelStep, ...], tall: float) -> None:
    """Write the numbers to the right of the bars."""
    first = rows[0].reached
    at = _WIDTH_IN - 0.25
    columns = [
        [
            units.count(row.reached),
            units.share(row.reached / first if first else None),
            units.share(row.conversion_rate),
            units.share(row.step_rate),
        ]
        for row in rows
    ]
    top = _BELOW_IN + _ROW_IN * len(rows)
    for place in reversed(range(len(_FIGURES))):
        left, above, word = at / _WIDTH_IN, (top + 0.06) / tall, _FIGURES[place]
        figure.text(left, above, word, ha="right", va="bottom", color=FAINT)
        for line, cells in enumerate(columns):
            figure.text(
                left,
                (top - _ROW_IN * (line + 0.5)) / tall,
                cells[place],
                ha="right",
                va="center_baseline",
                weight="bold" if place == 0 else "normal",
            )
        at -= _FIGURE_IN
    lines = library("lines")
    right = len(_FIGURES) * _FIGURE_IN + 0.1
    figure.add_artist(
        lines.Line2D(
            [1 - right / _WIDTH_IN, 1 - 0.25 / _WIDTH_IN],
            [(top + 0.03) / tall] * 2,
            color=LINE,
            linewidth=0.8,
        )
    )
