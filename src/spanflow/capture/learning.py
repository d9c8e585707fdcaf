"""What a turn of plain code learns from the config of a graph that runs inside it.

What the block said itself stands; the config fills in the rest. This module changes what is known
of a turn and opens nothing.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from spanflow.capture.identity import GraphShape, Identity, Said
    from spanflow.capture.step import Step
    from spanflow.capture.turn import Turn

__all__ = ["learn", "tools_inside"]


def learn(turn: Turn, shape: GraphShape, said: Said, step: Step | None) -> None:
    """Let `turn` take over what it does not know of itself.

    Args:
        turn: The turn, which is plain.
        shape: The graph that is about to run in it.
        said: What the config of that run says.
        step: The step around the graph.
    """
    with turn.lock:
        who = turn.identity
        paths = {_prefix(step) + path: path for path in shape.paths}
        turn.listed.update(paths)
        marks = said.global_steps if said.global_steps is not None else who.global_steps
        turn.global_steps.update(_resolved(shape, paths, marks))
        told = dataclasses.replace(
            who,
            user_id=who.user_id if who.user_id is not None else said.user_id,
            session_id=who.session_id if who.session_id is not None else said.session_id,
            metadata={**said.metadata, **who.metadata},
            global_steps=_both(who.global_steps, said.global_steps or ()),
        )
        if said.goals is None or who.goals_from == "block":
            turn.goal_paths.update(_meant(paths, who.goals))
        else:
            told = _with_goals(turn, told, _resolved(shape, paths, said.goals), said.goals)
        if told != who:
            turn.becomes(told)


def tools_inside(
    step_tools: Mapping[str, tuple[str, ...]], step: Step | None
) -> dict[str, tuple[str, ...]]:
    """Return the tools that steps of a graph have at hand, by their paths in the turn as well."""
    prefix = _prefix(step)
    return {**step_tools, **{prefix + path: tools for path, tools in step_tools.items()}}


def _prefix(step: Step | None) -> str:
    return f"{step.path}/" if step is not None else ""


def _resolved(
    shape: GraphShape, paths: Mapping[str, str], names: tuple[str, ...]
) -> dict[str, str]:
    """Map the paths that `names` mean to the name: as in the graph's own turn, or in full."""
    own = shape.resolve(names)
    found = {path: own[inner] for path, inner in paths.items() if inner in own}
    return found | {path: path for path in paths if path in names}


def _meant(paths: Mapping[str, str], goals: tuple[str, ...]) -> dict[str, str]:
    """Map the paths that goals of plain code mean: every step of that name, whatever its graph."""
    found: dict[str, str] = {}
    for path, inner in paths.items():
        for name in (path, inner, path.rpartition("/")[2]):
            if name in goals:
                found[path] = name
                break
    return found


def _with_goals(
    turn: Turn, who: Identity, found: Mapping[str, str], names: tuple[str, ...]
) -> Identity:
    """Declare the goals of the config that the graph has, in the place of those nobody asked for.

    As in its own turn, those that it has not are no reason to count as abandoned.
    """
    turn.goal_paths.update(found)
    declared = [name for name in names if name in found.values()]
    if who.goals_from == "graph":
        turn.goals.extend(name for name in declared if name not in turn.goals)
    elif declared:
        turn.goals = [*declared, *(name for name in turn.goals_reached if name not in declared)]
        return dataclasses.replace(who, goals=names, goals_from="graph")
    return dataclasses.replace(who, goals=_both(who.goals, names))


def _both(first: tuple[str, ...], second: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*first, *second)))
