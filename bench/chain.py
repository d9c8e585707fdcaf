"""The graph that is measured: ten empty nodes in a chain, so that only machinery is timed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict

from langgraph.graph import END, START, StateGraph
from opentelemetry import trace

if TYPE_CHECKING:
    from collections.abc import Callable

NODES = 10
TEN_ATTRIBUTES = {f"bench.attribute_{n}": f"value {n}" for n in range(10)}


class State(TypedDict):
    """One number, counted up by every node."""

    n: int


def build(*, asynchronous: bool, with_spans: bool) -> Any:
    """Compile the chain.

    Args:
        asynchronous: Whether the nodes are coroutines.
        with_spans: Whether each node makes one plain SDK span with ten attributes, which is the
            floor of any tracing.
    """
    tracer = trace.get_tracer("bench")

    def count(state: State) -> State:
        return {"n": state["n"] + 1}

    def count_in_span(state: State) -> State:
        with tracer.start_as_current_span("step", attributes=TEN_ATTRIBUTES):
            return {"n": state["n"] + 1}

    body: Callable[[State], State] = count_in_span if with_spans else count

    async def count_async(state: State) -> State:
        return body(state)

    graph = StateGraph(State)
    names = [f"node_{n}" for n in range(NODES)]
    for name in names:
        graph.add_node(name, count_async if asynchronous else body)
    for source, target in zip([START, *names], [*names, END], strict=True):
        graph.add_edge(source, target)
    return graph.compile(name="chain")
