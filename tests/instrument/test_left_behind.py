"""Graphs that still run when whoever ran them has left: what they spent is on the spans around."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from graphs import State, llm
from langgraph.graph import START, StateGraph

if TYPE_CHECKING:
    from conftest import Flow


def one(name: str, node: Any) -> Any:
    builder = StateGraph(State)
    builder.add_node(name, node)
    builder.add_edge(START, name)
    return builder.compile()


@pytest.mark.parametrize("depth", [0, 1, 3])
async def test_what_a_graph_spent_before_its_node_left_it_is_on_all_spans(
    flow: Flow, depth: int
) -> None:
    spent, go_on = asyncio.Event(), asyncio.Event()

    async def leaf(state: State) -> State:
        await llm(10, 1).ainvoke("hello")
        spent.set()
        await go_on.wait()
        return {"log": ["leaf"]}

    inner = one("leaf", leaf)
    for _ in range(depth):
        inner = one("between", inner)
    left: list[asyncio.Task[Any]] = []

    async def leaving(state: State) -> State:
        left.append(asyncio.create_task(inner.ainvoke({"log": []})))
        await spent.wait()
        return {"log": ["left"]}

    await one("around", one("leaving", leaving)).ainvoke({"log": []})
    told = {
        span.name: (span.attributes or {}).get("spanflow.usage.total_tokens") for span in flow.spans
    }
    assert told["step leaving"] == told["step around"] == 11
    assert flow.sql("SELECT outcome, total_tokens FROM turns") == [("completed", 11)]
    go_on.set()
    assert await asyncio.gather(*left)
    assert flow.sql("SELECT DISTINCT total_tokens FROM steps") == [(11,)]
    assert flow.sql("SELECT what, field, reason FROM usage_conflicts") == []
