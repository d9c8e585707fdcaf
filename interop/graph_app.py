"""A LangGraph app that keeps its own books, to be run beside any instrumentor.

It knows nothing of tracing. Its graph has a retried node, a tool loop, two equal parallel calls, a
streamed answer with cached and reasoning tokens, and a subgraph. It is run once synchronously, once
asynchronously and once as a stream. At the end it prints, as one line of JSON, which steps each run
went through and what its models spent in each of them.
"""

from __future__ import annotations

import asyncio
import json
import operator
import sys
import threading
from collections import Counter, defaultdict
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Annotated, Any, TypedDict

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, ToolMessage
from langchain_core.messages.ai import InputTokenDetails, OutputTokenDetails, UsageMetadata
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.tools import tool
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.types import RetryPolicy

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from langchain_core.callbacks import BaseCallbackHandler
    from langchain_core.messages import BaseMessage

place: ContextVar[tuple[str, str]] = ContextVar("place")


class Books:
    """What really happened: steps completed, and tokens and calls by step, for each run."""

    def __init__(self) -> None:
        """Begin with empty books."""
        self._lock = threading.Lock()
        self.steps: dict[str, Counter[str]] = defaultdict(Counter)
        self.calls: dict[str, Counter[str]] = defaultdict(Counter)
        self.tools: Counter[str] = Counter()
        self.tokens: dict[str, dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))

    @contextmanager
    def step(self, state: State, path: str) -> Iterator[None]:
        """Note a step once it has ended well, and where its code is until then."""
        token = place.set((state["run"], path))
        try:
            yield
        finally:
            place.reset(token)
        with self._lock:
            self.steps[state["run"]][path] += 1

    def spent(self, usage: UsageMetadata) -> None:
        """Note one call to a model."""
        run, path = place.get()
        with self._lock:
            self.calls[run][path] += 1
            self.tokens[run][path] += Counter(
                input_tokens=usage["input_tokens"],
                output_tokens=usage["output_tokens"],
                total_tokens=usage["total_tokens"],
                cache_read_tokens=usage.get("input_token_details", {}).get("cache_read", 0),
                reasoning_tokens=usage.get("output_token_details", {}).get("reasoning", 0),
            )

    def closed(self) -> dict[str, Any]:
        """Everything, by run."""
        return {
            run: {
                "steps": steps,
                "calls": self.calls[run],
                "tools": self.tools[run],
                "tokens": self.tokens[run],
            }
            for run, steps in self.steps.items()
        }


books = Books()


class State(TypedDict):
    """What the graph hands on; `run` is the name of the run it belongs to."""

    run: str
    messages: Annotated[list[Any], add_messages]
    votes: Annotated[list[str], operator.add]


def usage(given: int, produced: int, cached: int = 0, reasoned: int = 0) -> UsageMetadata:
    """Say what a call spends, in the words of LangChain."""
    return UsageMetadata(
        input_tokens=given,
        output_tokens=produced,
        total_tokens=given + produced,
        input_token_details=InputTokenDetails(cache_read=cached),
        output_token_details=OutputTokenDetails(reasoning=reasoned),
    )


class Model(BaseChatModel):
    """A chat model without a network: it says one thing, and notes what that spends."""

    model_name: str = "gpt-4o-mini"
    answer: str = "fine"
    spends: tuple[int, int, int, int] = (1, 1, 0, 0)
    asks_for: dict[str, Any] | None = None

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> Any:
        return super()._get_ls_params(stop=stop, **kwargs) | {
            "ls_provider": "openai",
            "ls_model_name": self.model_name,
        }

    def _spend(self) -> UsageMetadata:
        spent = usage(*self.spends)
        books.spent(spent)
        return spent

    def _generate(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        del messages, stop, run_manager, kwargs
        message = AIMessage(
            self.answer,
            usage_metadata=self._spend(),
            tool_calls=[self.asks_for] if self.asks_for else [],
            response_metadata={"model_name": self.model_name},
        )
        return ChatResult(generations=[ChatGeneration(message=message)])

    def _stream(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> Iterator[ChatGenerationChunk]:
        del messages, stop, kwargs
        asked = self.asks_for and [self.asks_for | {"args": json.dumps(self.asks_for["args"])}]
        for word in self.answer.split():
            chunk = ChatGenerationChunk(message=AIMessageChunk(word + " "))
            if run_manager:
                run_manager.on_llm_new_token(word, chunk=chunk)
            yield chunk
        last = AIMessageChunk(
            "",
            tool_call_chunks=[tool_call_chunk(**each, index=0) for each in asked or ()],
            usage_metadata=self._spend(),
            response_metadata={"model_name": self.model_name},
        )
        yield ChatGenerationChunk(message=last)


@tool
def lookup(area: str) -> str:
    """Look a district up."""
    run, _ = place.get()
    books.tools[run] += 1
    return f"{area} is west of the moat"


tried: Counter[str] = Counter()


def plan(state: State) -> dict[str, Any]:
    """Call a model, and fail at the first attempt."""
    with books.step(state, "plan"):
        said = Model(answer="look", spends=(11, 3, 0, 0)).invoke(state["messages"])
        tried[state["run"]] += 1
        if tried[state["run"]] == 1:
            message = "the first attempt always fails"
            raise ConnectionError(message)
    return {"messages": [said]}


def agent(state: State) -> dict[str, Any]:
    """Ask for a tool first, and answer once it has been used."""
    used = isinstance(state["messages"][-1], ToolMessage)
    asks = None if used else {"name": "lookup", "args": {"area": "Shibuya"}, "id": "call-1"}
    model = Model(spends=(30, 6, 0, 0) if used else (20, 5, 0, 0), asks_for=asks)
    with books.step(state, "agent"):
        return {"messages": [model.invoke(state["messages"])]}


def use_tools(state: State) -> dict[str, Any]:
    """Run the tools the agent asked for."""
    with books.step(state, "tools"):
        asked = state["messages"][-1].tool_calls
        return {"messages": [lookup.invoke({**each, "type": "tool_call"}) for each in asked]}


def vote(state: State) -> dict[str, Any]:
    """Make two calls that nothing tells apart, at the same time."""
    with books.step(state, "vote"):
        said = Model(answer="yes", spends=(8, 2, 0, 0)).batch([state["messages"]] * 2)
    return {"votes": [str(each.content) for each in said]}


def write(state: State) -> dict[str, Any]:
    """Stream an answer whose input is partly cached and whose output is partly reasoning."""
    model = Model(answer="Shibuya it is", spends=(100, 40, 60, 25))
    with books.step(state, "write"):
        said = [chunk.content for chunk in model.stream(state["messages"])]
    return {"messages": [AIMessage("".join(map(str, said)))]}


def review(state: State) -> dict[str, Any]:
    """Call a model inside the subgraph."""
    with books.step(state, "check/review"):
        return {"messages": [Model(spends=(7, 3, 0, 0)).invoke(state["messages"])]}


def sign(state: State) -> dict[str, Any]:
    """End the subgraph, which is a step itself."""
    with books.step(state, "check/sign"), books.step(state, "check"):
        return {}


def build() -> Any:
    """Put the graph together."""
    check = StateGraph(State)
    check.add_sequence([review, sign])
    check.add_edge(START, "review")
    graph = StateGraph(State)
    graph.add_node(plan, retry_policy=RetryPolicy(initial_interval=0.001, jitter=False))
    graph.add_node(agent)
    graph.add_node("tools", use_tools)
    graph.add_node(vote)
    graph.add_node(write)
    graph.add_node("check", check.compile())
    graph.add_edge(START, "plan")
    graph.add_edge("plan", "agent")
    graph.add_conditional_edges(
        "agent",
        lambda state: "tools" if state["messages"][-1].tool_calls else "vote",
        ["tools", "vote"],
    )
    graph.add_edge("tools", "agent")
    graph.add_edge("vote", "write")
    graph.add_edge("write", "check")
    graph.add_edge("check", END)
    return graph.compile()


def main(callbacks: Sequence[BaseCallbackHandler] = ()) -> None:
    """Run the graph in three ways and close the books.

    Args:
        callbacks: Somebody's handlers, given to each run as their documentation wants it.
    """
    graph = build()

    def begin(run: str) -> tuple[State, Any]:
        state = State(run=run, messages=[HumanMessage("where shall we live?")], votes=[])
        return state, {"run_name": run, "callbacks": list(callbacks)}

    graph.invoke(*begin("sync"))
    asyncio.run(graph.ainvoke(*begin("async")))
    for _ in graph.stream(*begin("streamed"), stream_mode=["updates", "messages"]):
        pass
    json.dump(books.closed(), sys.stdout)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
