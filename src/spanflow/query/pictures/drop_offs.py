"""Where engagements ended without a goal: a bar a step, in parts by how they ended there."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from spanflow.query import units
from spanflow.query.pictures.canvas import (
    ENDS,
    HATCHES,
    LEGEND_IN,
    Picture,
    described,
    inches_of,
    label,
    legend,
    nothing,
    sheet,
)

if TYPE_CHECKING:
    from spanflow.query.answers import Answer
    from spanflow.query.rows import DropOff

__all__ = ["draw_drop_offs"]

_TITLE = "Where engagements broke off"
_NOWHERE = "before any step"
_PARTS = ("abandoned", "failed", "interrupted")
_STEPS = 25
_WIDTH_IN = 10.0
_ROW_IN = 0.4
_RIGHT_IN = 1.7
_FOOT_IN = 0.3


def draw_drop_offs(answer: Answer[DropOff]) -> Picture:
    """Draw the steps where most ended first."""
    ended: defaultdict[str, dict[str, int]] = defaultdict(lambda: dict.fromkeys(_PARTS, 0))
    shares: defaultdict[str, float] = defaultdict(float)
    for row in answer:
        step = _NOWHERE if row.step is None else row.step
        ended[step][row.status] += row.engagements
        shares[step] += row.share
    steps = sorted(ended, key=lambda step: (-sum(ended[step].values()), step))
    all_of_them = sum(sum(parts.values()) for parts in ended.values())
    told = [f"{units.count(all_of_them)} engagements, by the step where they stood"]
    told += [f"the first {_STEPS} of {len(steps):,} steps"] if len(steps) > _STEPS else []
    told += filter(None, [described(answer.arguments)])
    if not steps:
        return nothing(_TITLE, " · ".join(told[1:]))
    steps = steps[:_STEPS]
    names = [label(step) for step in steps]
    left = 0.35 + max(map(inches_of, names))
    height = _ROW_IN * len(steps)
    figure = sheet(_TITLE, " · ".join(told), _WIDTH_IN, LEGEND_IN + height + _FOOT_IN)
    tall = figure.get_figheight()
    wide = _WIDTH_IN - left - _RIGHT_IN
    axes = figure.add_axes((left / _WIDTH_IN, _FOOT_IN / tall, wide / _WIDTH_IN, height / tall))
    most = max(sum(ended[step].values()) for step in steps)
    for line, step in enumerate(steps):
        begin = 0
        for part in _PARTS:
            axes.barh(
                line,
                ended[step][part],
                left=begin,
                height=0.7,
                color=ENDS[part],
                hatch=HATCHES.get(part),
                edgecolor="white",
                linewidth=0.8,
            )
            begin += ended[step][part]
        said = f"{units.count(begin)}  ({units.share(min(shares[step], 1.0))} of all)"
        axes.text(begin + most * 0.012, line, said, va="center_baseline")
    axes.set_xlim(0, most)
    axes.set_ylim(len(steps) - 0.5, -0.5)
    axes.set_xticks([])
    axes.set_yticks(range(len(steps)), names)
    axes.tick_params(length=0, pad=6)
    axes.spines[:].set_visible(False)
    used = [part for part in _PARTS if any(ended[step][part] for step in steps)]
    legend(figure, {part: (ENDS[part], HATCHES.get(part)) for part in used})
    return Picture(figure)
