"""How single values look: titles, units, colours and links of columns and series.

It knows no kind of panel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from grafana_foundation_sdk.models.dashboard import DynamicConfigValue

__all__ = ["COLOURS", "Column", "coloured", "named", "shown"]

# What becomes of people and steps has one colour everywhere.
COLOURS: Final = {
    "completed": "green",
    "advanced": "green",
    "answered": "green",
    "active": "blue",
    "paused": "yellow",
    "waiting": "yellow",
    "cancelled": "#8e8e8e",
    "left": "orange",
    "abandoned": "orange",
    "dropped": "orange",
    "failed": "red",
    "interrupted": "purple",
}
"""Colours by the name of a series."""


@dataclass(frozen=True)
class Column:
    """How one column of a table is shown."""

    title: str
    unit: str = ""
    """A unit of Grafana's; none for text and times."""
    link: str = ""
    """Where a click leads."""
    width: int = 0
    bar: bool = False
    """Draw a bar behind the number."""
    colour: str = ""
    bad_from: float | None = None
    """Red from there on, green below."""


def shown(column: Column) -> list[DynamicConfigValue]:
    """Return how a column or series is shown."""
    told = [_set("displayName", column.title)]
    if column.unit:
        told.append(_set("unit", column.unit))
    if column.width:
        told.append(_set("custom.width", column.width))
    if column.bar:
        told.append(_set("custom.cellOptions", {"type": "gauge", "mode": "basic"}))
        told.append(_set("min", 0))
    if column.colour:
        told += coloured(column.colour)
    if column.bad_from is not None:
        steps = [{"color": "green", "value": None}, {"color": "red", "value": column.bad_from}]
        told.append(_set("color", {"mode": "thresholds"}))
        told.append(_set("thresholds", {"mode": "absolute", "steps": steps}))
    if column.link:
        link = {"title": "Show its traces", "url": column.link, "targetBlank": False}
        told.append(_set("links", [link]))
    return told


def named(title: str, colour: str) -> list[DynamicConfigValue]:
    """Return what gives a series a title, and a colour where there is one."""
    return [_set("displayName", title), *(coloured(colour) if colour else [])]


def coloured(colour: str) -> list[DynamicConfigValue]:
    """Return what gives a series one colour."""
    return [_set("color", {"mode": "fixed", "fixedColor": colour})]


def _set(name: str, value: object) -> DynamicConfigValue:
    return DynamicConfigValue(id_val=name, value=value)
