"""What a compiled graph looks like before it runs: nodes, edges, tools, and their version.

The version changes when they do. Read from LangGraph's public builder where there is one, because
its drawing leaves out what a router without a path map can reach. The result is kept per graph
object.
"""

from __future__ import annotations

import hashlib
import weakref
from typing import Any, cast

import orjson

from spanflow.capture import redact
from spanflow.capture.identity import GraphShape
from spanflow.capture.payload import clean
from spanflow.guard import report

__all__ = ["shape_of"]

_START, _END = "__start__", "__end__"
_DEFAULT_NAMES = {"LangGraph", ""}
_DEEPEST = 8
_PREBUILT_AGENT = "langgraph.prebuilt.chat_agent_executor"

# With the redactor under which each was read: another one would give other names.
_shapes: weakref.WeakKeyDictionary[Any, tuple[object, GraphShape]] = weakref.WeakKeyDictionary()


def shape_of(graph: Any) -> GraphShape:
    """Return the shape of a compiled graph; a graph that cannot be read is a shape without nodes.

    ``nodes`` are ``{"name", "path", "entry", "finish", "tools", "graph"}``, ``edges`` are
    ``{"source", "target", "conditional", "declared"}``; an edge that a router without a path map
    may take is conditional and not declared.
    """
    try:
        redactor, found = _shapes.get(graph, (None, None))
        if found is None or redactor is not redact.current():
            found = _read(graph)
            _shapes[graph] = redact.current(), found
    except Exception as error:  # noqa: BLE001 - a graph we cannot read must still run
        report("topology.shape_of", error)
        return GraphShape("0" * 16, "graph")
    else:
        return found


def _read(graph: Any) -> GraphShape:
    nodes: list[dict[str, Any]] = []
    edges: list[dict[str, Any]] = []
    _walk(graph, "", nodes, edges, 0)
    canonical = orjson.dumps([nodes, edges], option=orjson.OPT_SORT_KEYS)
    version = hashlib.sha256(canonical).hexdigest()[:16]
    own = clean(graph.get_name())
    return GraphShape(
        version=version,
        name=own if own not in _DEFAULT_NAMES else f"graph-{version[:8]}",
        nodes=tuple(nodes),
        edges=tuple(edges),
        paths=tuple(node["path"] for node in nodes),
        tools={node["path"]: tuple(node["tools"]) for node in nodes if node["tools"]},
        agent=_agent_of(graph),
        converses=own not in _DEFAULT_NAMES and "messages" in graph.channels,
    )


def _agent_of(graph: Any) -> str | None:
    """Return the name of the agent that LangChain or LangGraph made this graph as."""
    config = cast("dict[str, Any]", graph.config or {})
    metadata = cast("dict[str, object]", config.get("metadata") or {})
    told = metadata.get("lc_agent_name")
    if isinstance(told, str):
        return clean(told)
    own = clean(graph.get_name())
    if own in _DEFAULT_NAMES:
        return None
    node = graph.nodes.get("agent")
    function = getattr(getattr(node, "bound", None), "func", None)
    return own if getattr(function, "__module__", None) == _PREBUILT_AGENT else None


def _walk(
    graph: Any, prefix: str, nodes: list[dict[str, Any]], edges: list[dict[str, Any]], depth: int
) -> None:
    names = [str(name) for name in graph.nodes if name != _START]
    pairs = _edges(graph, names)
    subgraphs = dict(graph.get_subgraphs()) if depth < _DEEPEST else {}
    for name in sorted(names):
        path = prefix + clean(name)
        nodes.append(
            {
                "name": clean(name),
                "path": path,
                "entry": (_START, name) in {pair[:2] for pair in pairs},
                "finish": (name, _END) in {pair[:2] for pair in pairs},
                "tools": sorted(
                    clean(tool)
                    for tool in getattr(graph.nodes[name].bound, "tools_by_name", None) or ()
                ),
                "graph": name in subgraphs,
            }
        )
    edges.extend(
        {
            "source": prefix + clean(source),
            "target": prefix + clean(target),
            "conditional": conditional,
            "declared": declared,
        }
        for source, target, conditional, declared in sorted(pairs)
        if source != _START and target != _END
    )
    for name in sorted(subgraphs):
        if name in names:
            _walk(subgraphs[name], f"{prefix}{clean(name)}/", nodes, edges, depth + 1)


def _edges(graph: Any, names: list[str]) -> set[tuple[str, str, bool, bool]]:
    """Return (source, target, conditional, declared) for every edge, start and end included."""
    builder = getattr(graph, "builder", None)
    if builder is None:
        drawn = graph.get_graph().edges
        return {(edge.source, edge.target, bool(edge.conditional), True) for edge in drawn}
    found = {(source, target, False, True) for source, target in builder.edges}
    for sources, target in builder.waiting_edges:
        found |= {(source, target, False, True) for source in sources}
    for source, branches in builder.branches.items():
        for branch in branches.values():
            if branch.ends is not None:
                found |= {(source, target, True, True) for target in branch.ends.values()}
            else:
                found |= {(source, target, True, False) for target in [*names, _END]}
    for name, spec in builder.nodes.items():
        ends = getattr(spec, "ends", None) or ()
        found |= {(name, target, True, True) for target in ends}
    known = {*names, _START, _END}
    return {edge for edge in found if edge[0] in known and edge[1] in known}
