"""What is known of a turn before it opens: the shape of its graph, and whose turn it is.

Plain values that the framework's side fills in; nothing here opens, counts or writes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from opentelemetry.trace import SpanContext

    from spanflow.capture.lineage import Origin

__all__ = ["GraphShape", "Identity", "Said"]


@dataclass(frozen=True, slots=True)
class GraphShape:
    """What is known of a graph before it runs."""

    version: str | None
    """Sixteen hex digits of the topology; None where the steps are not known beforehand."""
    name: str
    """The graph's own name, or ``graph-`` and eight digits of its version; empty if unknown."""
    nodes: tuple[Mapping[str, Any], ...] = ()
    edges: tuple[Mapping[str, Any], ...] = ()
    paths: tuple[str, ...] = ()
    """Full paths of all steps, subgraphs included."""
    tools: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, "tuple[str, ...]"])
    """Tools by step path, where a step is a tool node."""
    agent: str | None = None
    """The agent that the graph is, where the framework that made it says so."""
    converses: bool = False
    """The graph has a name of its own and works on messages."""

    def resolve(self, names: Sequence[str]) -> dict[str, str]:
        """Map the paths of this graph that `names` mean to the name.

        A name means a path, or the path whose last segment it is where only one has that.
        """
        found: dict[str, str] = {}
        for name in names:
            if name in self.paths:
                found[name] = name
                continue
            tails = [path for path in self.paths if path.rpartition("/")[2] == name]
            if len(tails) == 1:
                found[tails[0]] = name
        return found


@dataclass(frozen=True, slots=True)
class Said:
    """What the config of a run says of whose it is; None or empty where it says nothing."""

    user_id: str | None = None
    session_id: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict[str, Any])
    goals: tuple[str, ...] | None = None
    global_steps: tuple[str, ...] | None = None
    step_tools: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, "tuple[str, ...]"])


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose turn this is and what was said about it."""

    engagement_id: str
    name: str
    kind: str
    is_unheard_of: bool = False
    """Nobody gave the engagement's id: it was made for this turn."""
    on_thread: bool = False
    conversation_id: str | None = None
    user_id: str | None = None
    session_id: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict[str, Any])
    goals: tuple[str, ...] = ()
    goals_hold: bool = False
    """Goals hold although no step of that name is known."""
    goals_from: str = "block"
    """Who declared them: the ``block`` itself, a ``graph`` inside it, or nobody: a ``default``."""
    global_steps: tuple[str, ...] = ()
    step_tools: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, "tuple[str, ...]"])
    previous: SpanContext | None = None
    """The last turn on the thread."""
    origin: Origin | None = None
    """Of a fork: the checkpoint it begins at."""
    left_from: SpanContext | None = None
    """Of a fork: the step that wrote that checkpoint, or else its turn."""
    started_by: SpanContext | None = None
    """Of an agent that outlived a turn: what it was started in there."""
    answers: tuple[str, ...] = ()
    """Ids of the interrupts a resume answers; ``*`` for the one that is pending."""
    resolution: str | None = None
    """What the app calls its answer."""
