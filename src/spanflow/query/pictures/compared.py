"""Two sets of engagements beside each other: how much larger or smaller each number is."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, cast

from spanflow.query import shown, units
from spanflow.query.pictures.canvas import (
    FAINT,
    LINE,
    MANY,
    Picture,
    described,
    inches_of,
    label,
    nothing,
    sheet,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from spanflow.query.answers import Answer
    from spanflow.query.figures import Compared

__all__ = ["draw_compared"]

# The values have their units.
_UNITS = re.compile(r"_(ms|usd)(?=_|$)")
_TITLE = "Two sets of engagements compared"
_WIDTH_IN = 10.0
_ROW_IN = 0.36
_VALUE_IN = 1.0
_HEAD_IN = 0.35
_FOOT_IN = 0.3
# A number ten times as large needs no longer bar.
_MOST = 1.0
_MANY_TIMES = 10
_TOO_MANY = 1e6


def draw_compared(answer: Answer[Compared]) -> Picture:
    """Draw how b differs from a, in parts of a; what is more than twice as large has an arrow."""
    told = [f"a: {_filter(answer, 'a')}", f"b: {_filter(answer, 'b')}"]
    told += filter(None, [described(answer.arguments)])
    if not answer.rows:
        return nothing(_TITLE, " · ".join(told))
    names = [label(_UNITS.sub("", row.metric).replace("_", " ")) for row in answer]
    left = 0.35 + max(map(inches_of, names)) + 2 * _VALUE_IN + 0.15
    height = _ROW_IN * len(answer)
    figure = sheet(_TITLE, " · ".join(told), _WIDTH_IN, _HEAD_IN + height + _FOOT_IN)
    tall = figure.get_figheight()
    wide = _WIDTH_IN - left - 1.1
    axes = figure.add_axes((left / _WIDTH_IN, _FOOT_IN / tall, wide / _WIDTH_IN, height / tall))
    for line, row in enumerate(answer):
        change = None if row.ratio is None else row.ratio - 1
        spot = 0.0 if change is None else max(min(change, _MOST), -_MOST)
        axes.barh(line, spot, height=0.62, color=MANY[0] if spot > 0 else MANY[1], linewidth=0)
        said = _change(row.ratio)
        said += "  ▸" if change is not None and change > _MOST else ""
        axes.text(
            spot + (0.02 if spot >= 0 else -0.02),
            line,
            said,
            ha="left" if spot >= 0 else "right",
            va="center_baseline",
        )
        for place, side in ((2, "a"), (1, "b")):
            figure.text(
                (left - 0.2 - (place - 1) * _VALUE_IN) / _WIDTH_IN,
                (_FOOT_IN + height - _ROW_IN * (line + 0.5)) / tall,
                shown.cell(row, side),
                ha="right",
                va="center_baseline",
            )
        figure.text(
            0.25 / _WIDTH_IN,
            (_FOOT_IN + height - _ROW_IN * (line + 0.5)) / tall,
            names[line],
            va="center_baseline",
        )
    top = (_FOOT_IN + height + 0.06) / tall
    for place, side in ((2, "a"), (1, "b")):
        figure.text(
            (left - 0.2 - (place - 1) * _VALUE_IN) / _WIDTH_IN, top, side, ha="right", color=FAINT
        )
    middle = (left + wide / 2) / _WIDTH_IN
    figure.text(middle, top, "b is larger or smaller than a by", ha="center", color=FAINT)
    axes.axvline(0, color=LINE, linewidth=1)
    axes.set_xlim(-_MOST * 1.02, _MOST * 1.02)
    axes.set_ylim(len(answer) - 0.5, -0.5)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    return Picture(figure)


def _change(ratio: float | None) -> str:
    if ratio is None:
        return units.UNKNOWN
    if ratio < _MANY_TIMES:
        return f"{ratio - 1:+,.0%}".replace("-", "−")
    return f"×{ratio:,.0f}" if ratio < _TOO_MANY else f"×{ratio:.0e}"


def _filter(answer: Answer[Compared], side: str) -> str:
    given = cast("Mapping[str, object]", answer.arguments.get(side, {}))
    return ", ".join(f"{key} = {value}" for key, value in given.items()) or "all"
