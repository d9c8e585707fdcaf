"""The shape of a graph before it runs: nodes, edges of every kind, tools, and a version."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import pytest
from graphs import State, chain
from langchain_core.tools import tool
from langgraph.func import entrypoint, task
from langgraph.graph import END, START, StateGraph
from langgraph.prebuilt import ToolNode
from langgraph.types import Command, Send

from spanflow import guard
from spanflow.instrument.topology import shape_of


def node(state: State) -> State:
    """Do nothing."""
    return {"log": []}


def graph(*edges: Any, nodes: str = "abcd", **options: Any) -> Any:
    """A graph of four idle nodes; an edge is a pair, or the arguments of a router."""
    builder = StateGraph(State)
    for name in nodes:
        builder.add_node(name, options.get(name, node))
    builder.add_edge(START, nodes[0])
    for source, target, *more in edges:
        if callable(target):
            builder.add_conditional_edges(source, target, *more)
        else:
            builder.add_edge(source, target)
    return builder.compile()


def edges(app: Any) -> set[tuple[str, str, bool, bool]]:
    return {
        (edge["source"], edge["target"], edge["conditional"], edge["declared"])
        for edge in shape_of(app).edges
    }


def router(state: State) -> str:
    return "b"


def literal(state: State) -> Literal["b", "c"]:
    return "b"


def test_plain_edges() -> None:
    app = graph(("a", "b"), ("b", END), nodes="ab")
    assert edges(app) == {("a", "b", False, True)}
    assert [(n["name"], n["entry"], n["finish"]) for n in shape_of(app).nodes] == [
        ("a", True, False),
        ("b", False, True),
    ]


@pytest.mark.parametrize("path_map", [["b", "c"], {"b": "b", "other": "c"}])
def test_a_router_with_a_path_map(path_map: Any) -> None:
    assert edges(graph(("a", router, path_map))) == {
        ("a", "b", True, True),
        ("a", "c", True, True),
    }


def test_a_router_that_says_where_it_goes() -> None:
    assert edges(graph(("a", literal))) == {("a", "b", True, True), ("a", "c", True, True)}


def test_a_router_that_does_not_say_may_go_anywhere() -> None:
    assert edges(graph(("a", router))) == {("a", name, True, False) for name in "abcd"}


def test_a_router_that_sends_may_go_anywhere_or_where_its_map_says() -> None:
    def fan(state: State) -> Any:
        return [Send("b", {"log": []})]

    assert ("a", "b", True, False) in edges(graph(("a", fan)))
    assert edges(graph(("a", fan, ["b"]))) == {("a", "b", True, True)}


def test_a_loop_to_itself_is_an_edge() -> None:
    assert ("a", "a", True, True) in edges(graph(("a", router, ["a", END])))
    assert ("a", "a", True, False) in edges(graph(("a", router)))


def test_waiting_edges_have_many_sources() -> None:
    app = graph(("a", "b"), ("a", "c"), (["b", "c"], "d"))
    assert edges(app) == {
        ("a", "b", False, True),
        ("a", "c", False, True),
        ("b", "d", False, True),
        ("c", "d", False, True),
    }


def test_destinations_of_a_command() -> None:
    def jump(state: State) -> Command[Literal["b", "c", "__end__"]]:
        return Command(goto="b")

    app = graph(nodes="abc", a=jump)
    assert edges(app) == {("a", "b", True, True), ("a", "c", True, True)}
    assert [n["name"] for n in shape_of(app).nodes if n["finish"]] == ["a"]
    builder = StateGraph(State)
    builder.add_node("a", node, destinations=("b",))
    builder.add_node("b", node)
    builder.add_edge(START, "a")
    assert edges(builder.compile()) == {("a", "b", True, True)}


def test_subgraphs_are_walked_with_their_paths() -> None:
    builder = StateGraph(State)
    builder.add_node("sub", chain("x", "y"))
    builder.add_node("after", node)
    builder.add_edge(START, "sub")
    builder.add_edge("sub", "after")
    shape = shape_of(builder.compile())
    assert shape.paths == ("after", "sub", "sub/x", "sub/y")
    assert {n["path"] for n in shape.nodes if n["graph"]} == {"sub"}
    assert {(e["source"], e["target"]) for e in shape.edges} == {
        ("sub", "after"),
        ("sub/x", "sub/y"),
    }


def test_subgraphs_of_subgraphs_end_somewhere() -> None:
    app = chain("leaf")
    for _ in range(12):
        builder = StateGraph(State)
        builder.add_node("in", app)
        builder.add_edge(START, "in")
        app = builder.compile()
    shape = shape_of(app)
    assert max(path.count("/") for path in shape.paths) == 8


def test_tools_of_tool_nodes_are_known_by_step() -> None:
    @tool
    def search(area: str) -> str:
        """Search."""
        return area

    @tool
    def book(area: str) -> str:
        """Book."""
        return area

    inner = StateGraph(dict)
    inner.add_node("tools", ToolNode([search, book]))
    inner.add_edge(START, "tools")
    builder = StateGraph(dict)
    builder.add_node("sub", inner.compile())
    builder.add_node("own", ToolNode([search]))
    builder.add_edge(START, "sub")
    builder.add_edge("sub", "own")
    shape = shape_of(builder.compile())
    assert dict(shape.tools) == {"sub/tools": ("book", "search"), "own": ("search",)}


def test_the_functional_api() -> None:
    @task
    def double(value: int) -> int:
        return value * 2

    @entrypoint()
    def work(value: int) -> int:
        return double(value).result()

    shape = shape_of(work)
    assert shape.paths == ("work",)
    assert shape.name == f"graph-{shape.version[:8]}"


# -- names and versions ----------------------------------------------------------------------------


def test_an_unnamed_graph_is_called_by_its_version() -> None:
    shape = shape_of(graph(("a", "b")))
    assert shape.name == f"graph-{shape.version[:8]}"
    assert len(shape.version) == 16
    int(shape.version, 16)


def test_the_version_is_that_of_the_topology() -> None:
    same = [graph(("a", "b"), ("b", "c")), graph(("b", "c"), ("a", "b"))]
    assert shape_of(same[0]).version == shape_of(same[1]).version
    others = [
        graph(("a", "b")),
        graph(("a", "b"), ("b", "d")),
        graph(("a", "b"), ("b", router, ["c"])),
        graph(("a", "b"), ("b", "c"), ("c", END)),
        graph(("a", "b"), ("b", "c"), c=chain("x")),
        graph(("a", "b"), ("b", "c"), c=chain("y")),
        graph(("a", "b"), ("b", "c"), nodes="abcde"),
    ]
    assert len({shape_of(app).version for app in [same[0], *others]}) == len(others) + 1


def test_a_name_is_not_part_of_the_version() -> None:
    builder = StateGraph(State)
    builder.add_node("a", node)
    builder.add_edge(START, "a")
    one, other = builder.compile(name="one"), builder.compile(name="other")
    assert (shape_of(one).name, shape_of(other).name) == ("one", "other")
    assert shape_of(one).version == shape_of(other).version


VERSION = """
import sys
sys.path[:0] = [{tests!r}]
from instrument.test_topology import branching
from spanflow.instrument.topology import shape_of
print(shape_of(branching()).version)
"""


def branching() -> Any:
    """A graph whose edges come out of many sets."""
    return graph(("a", router), ("b", literal), (["b", "c"], "d"), ("d", router, ["a", "b", END]))


def test_the_version_is_the_same_in_every_process() -> None:
    code = VERSION.format(tests=str(Path(__file__).parents[1]))
    environment = {"PYTHONHASHSEED": "7", "PYTHONPATH": ":".join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )
    assert done.stdout.strip() == shape_of(branching()).version


def test_a_graph_is_read_once() -> None:
    app = graph(("a", "b"))
    assert shape_of(app) is shape_of(app)


def test_a_graph_that_cannot_be_read_still_has_a_shape() -> None:
    class Odd:
        nodes: Any = property(lambda self: 1 / 0)

    guard.set_strict(False)
    shape = shape_of(Odd())
    assert (shape.paths, shape.edges, shape.version) == ((), (), "0" * 16)
    assert guard.counts() == {"topology.shape_of": 1}
