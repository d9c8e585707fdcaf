"""A real graph whose input says which steps a user takes, and questions to its ledger."""

from __future__ import annotations

import operator
from typing import Annotated, Any, TypedDict

from graphs import calling, llm
from langgraph.graph import END, START, StateGraph


class Walk(TypedDict, total=False):
    """Which steps to take, and what was done so far."""

    route: list[str]
    log: Annotated[list[Any], operator.add]


def _next_step(state: Walk) -> str:
    taken = len(state.get("log", []))
    return state["route"][taken] if taken < len(state["route"]) else END


def walking(*names: str, saver: Any = None, tokens: tuple[int, int] = (10, 5), **nodes: Any) -> Any:
    """A graph that goes where its state says; each node calls a model unless it is given."""
    builder = StateGraph(Walk)
    for name in names:
        builder.add_node(name, nodes.get(name) or calling(llm(*tokens)))
    for name in (START, *names):
        builder.add_conditional_edges(name, _next_step, [*names, END])
    return builder.compile(checkpointer=saver)


def told(flow: Any, question: str, columns: str = "*") -> list[dict[str, Any]]:
    """Ask the ledger a question, and return some columns of its rows as mappings."""
    return flow.rows(f"SELECT {columns} FROM {question}")


def column(flow: Any, question: str, name: str) -> list[Any]:
    """Return one column of the answer, in the order of its rows."""
    return [row[name] for row in told(flow, question)]
