"""A small support agent for the recipes: it looks something up and answers with a scripted model.

It knows nothing of spanflow, and needs no network.
"""

from __future__ import annotations

import itertools
from typing import Any

from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableLambda
from langgraph.graph import END, START, MessagesState, StateGraph

TOKENS_IN, TOKENS_OUT = 11, 7


def _reply(number: int) -> AIMessage:
    usage = {
        "input_tokens": TOKENS_IN,
        "output_tokens": TOKENS_OUT,
        "total_tokens": TOKENS_IN + TOKENS_OUT,
    }
    return AIMessage(content=f"Answer {number}: have you tried again?", usage_metadata=usage)


def build() -> Any:
    """Compile the agent; its nodes run in sync and in async code."""
    model = GenericFakeChatModel(messages=map(_reply, itertools.count(1)))

    def look_up(state: MessagesState) -> dict[str, Any]:
        return {"messages": [("system", f"{len(state['messages'])} message so far")]}

    def answer(state: MessagesState) -> dict[str, Any]:
        return {"messages": [model.invoke(state["messages"])]}

    async def answer_async(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await model.ainvoke(state["messages"])]}

    graph = StateGraph(MessagesState)
    graph.add_node("look_up", look_up)
    graph.add_node("answer", RunnableLambda(answer, afunc=answer_async))
    graph.add_edge(START, "look_up")
    graph.add_edge("look_up", "answer")
    graph.add_edge("answer", END)
    return graph.compile(name="support")
