"""What flows along the paths taken, as nodes in columns and links between them; pure arithmetic.

Paths are cut and rare steps put together here, so that the picture stays readable; how it is drawn
is another's affair.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["END_WORDS", "Flow", "Link", "Node", "Way", "flow_of"]

END_WORDS = {
    "completed": "completed",
    "abandoned": "abandoned",
    "failed": "failed",
    "open": "open or died",
}
"""How a path can end, in the order they are drawn; the last are those that have no other end."""

_OPEN = "open"
# Where the question itself cut a path.
_CUT = "…"
_LATER = "later steps"


@dataclass(frozen=True, slots=True)
class Way:
    """A path, how many took it, and how they ended; an end that is no other is ``open``."""

    path: tuple[str, ...]
    engagements: int
    ends: Mapping[str, int]


@dataclass(eq=False, slots=True)
class Node:
    """A step at one place of the paths, or their end there."""

    column: int
    name: str
    end: str | None = None
    weight: int = 0
    comes: list[Link] = field(default_factory=list["Link"])
    goes: list[Link] = field(default_factory=list["Link"])


@dataclass(eq=False, slots=True)
class Link:
    """How many engagements went from one node to another."""

    source: Node
    target: Node
    weight: int = 0


@dataclass(frozen=True, slots=True)
class Flow:
    """All nodes, column by column and from top to bottom."""

    columns: list[list[Node]]


def flow_of(ways: Sequence[Way], most_columns: int, most_nodes: int) -> Flow:
    """Put paths together.

    Args:
        ways: The paths and how many took each.
        most_columns: How many steps of a path are told apart; what comes later is one node.
        most_nodes: How many steps are told apart in one column; the rarest are one node.
    """
    cut = [(_cut(way.path, most_columns), way) for way in ways]
    told = _told_apart(cut, most_nodes)
    nodes: dict[tuple[int, str, str | None], Node] = {}
    links: dict[tuple[Node, Node], Link] = {}

    def node(column: int, name: str, end: str | None = None) -> Node:
        return nodes.setdefault((column, name, end), Node(column, name, end))

    def send(source: Node, target: Node, weight: int) -> None:
        link = links.get((source, target))
        if link is None:
            link = links[source, target] = Link(source, target)
            source.goes.append(link)
            target.comes.append(link)
        link.weight += weight
        target.weight += weight

    for path, way in cut:
        last: Node | None = None
        for column, name in enumerate(path):
            here = node(column, told[column][name])
            if last is None:
                here.weight += way.engagements
            else:
                send(last, here, way.engagements)
            last = here
        if last is not None:
            for end, weight in _ends(way):
                send(last, node(last.column + 1, END_WORDS[end], end), weight)
    return Flow(_ordered(nodes.values()))


def _cut(path: tuple[str, ...], most: int) -> tuple[str, ...]:
    if len(path) > most or path[-1:] == (_CUT,):
        return (*path[: min(most, len(path)) - 1], _LATER)
    return path


def _told_apart(cut: Iterable[tuple[tuple[str, ...], Way]], most: int) -> list[dict[str, str]]:
    """Return, for each column, under which name a step is drawn."""
    weights: list[defaultdict[str, int]] = []
    for path, way in cut:
        while len(weights) < len(path):
            weights.append(defaultdict(int))
        for column, name in enumerate(path):
            weights[column][name] += way.engagements
    told: list[dict[str, str]] = []
    for column in weights:
        ranked = [name for _, name in sorted((-weight, name) for name, weight in column.items())]
        rare = ranked[most - 1 :] if len(ranked) > most else []
        told.append({name: name for name in ranked})
        told[-1].update(dict.fromkeys(rare, f"{len(rare):,} others"))
    return told


def _ends(way: Way) -> list[tuple[str, int]]:
    known = {end: way.ends.get(end, 0) for end in END_WORDS if end != _OPEN}
    rest = way.engagements - sum(known.values())
    return [(end, weight) for end, weight in {**known, _OPEN: rest}.items() if weight > 0]


def _ordered(nodes: Iterable[Node]) -> list[list[Node]]:
    """Return the columns, everything near where it comes from."""
    columns: defaultdict[int, list[Node]] = defaultdict(list)
    for node in nodes:
        columns[node.column].append(node)
    places: dict[Node, int] = {}
    ends = list(END_WORDS)

    def rank(node: Node) -> tuple[float, int, int, str]:
        came = sum(link.weight for link in node.comes) or 1
        middle = sum(places[link.source] * link.weight for link in node.comes) / came
        if node.end is None:
            return (middle, 0, -node.weight, node.name)
        # Below the steps that come from the same place.
        return (middle + 0.5, 1 + ends.index(node.end), 0, node.name)

    ordered: list[list[Node]] = []
    for column in sorted(columns):
        found = sorted(columns[column], key=rank)
        places.update({node: at for at, node in enumerate(found)})
        ordered.append(found)
    return ordered
