"""Small real graphs and fake models that the tests of capture run."""

from __future__ import annotations

import itertools
import operator
from typing import Annotated, Any, TypedDict

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langgraph.graph import END, START, StateGraph


class State(TypedDict, total=False):
    """A log that every node appends to."""

    log: Annotated[list[Any], operator.add]


class FakeLLM(BaseChatModel):
    """A chat model whose replies are given, each with its usage; the last one repeats."""

    replies: list[AIMessage]
    model_name: str = "fake-1"
    streamed: bool = True

    def model_post_init(self, context: Any, /) -> None:
        self._replies = itertools.chain(self.replies, itertools.repeat(self.replies[-1]))

    @property
    def _llm_type(self) -> str:
        return "fake"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model_name": self.model_name}

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> Any:
        return {"ls_provider": "fake", "ls_model_name": self.model_name, "ls_model_type": "chat"}

    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        return self

    def _generate(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        reply = next(self._replies).model_copy(update={"id": None})
        return ChatResult(generations=[ChatGeneration(message=reply)])

    def _stream(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> Any:
        reply = next(self._replies)
        for word in str(reply.content).split(" "):
            chunk = ChatGenerationChunk(message=AIMessageChunk(word + " "))
            if run_manager is not None:
                run_manager.on_llm_new_token(word, chunk=chunk)
            yield chunk
        yield ChatGenerationChunk(
            message=AIMessageChunk(
                "", usage_metadata=reply.usage_metadata, tool_calls=reply.tool_calls
            )
        )


def usage(given: int, produced: int, **details: Any) -> dict[str, Any]:
    """LangChain's usage metadata."""
    return {
        "input_tokens": given,
        "output_tokens": produced,
        "total_tokens": given + produced,
        **details,
    }


def llm(given: int, produced: int, text: str = "a short reply", **details: Any) -> FakeLLM:
    """A model whose every reply costs the same."""
    return FakeLLM(replies=[AIMessage(text, usage_metadata=usage(given, produced, **details))])


def chain(*names: str, **nodes: Any) -> Any:
    """A graph that runs nodes one after another; a node not given appends its name."""
    builder = StateGraph(State)
    for name in names:
        builder.add_node(name, nodes.get(name) or _appending(name))
    for source, target in itertools.pairwise([START, *names, END]):
        builder.add_edge(source, target)
    return builder.compile()


def _appending(name: str) -> Any:
    def node(state: State) -> State:
        return {"log": [name]}

    return node


def calling(model: Any, times: int = 1) -> Any:
    """A node that calls `model`."""

    def node(state: State) -> State:
        for _ in range(times):
            model.invoke("hello")
        return {"log": ["called"]}

    return node


def acalling(model: Any) -> Any:
    """An asynchronous node that calls `model`."""

    async def node(state: State) -> State:
        await model.ainvoke("hello")
        return {"log": ["called"]}

    return node
