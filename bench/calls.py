"""Ten calls in one node of a model that answers at once: only the machinery of a call is timed."""

from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING, Any

from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langgraph.graph import START, StateGraph
from opentelemetry import trace

from bench.chain import NODES, TEN_ATTRIBUTES, State

if TYPE_CHECKING:
    from collections.abc import Callable


def build(kind: str, *, with_spans: bool) -> Any:
    """Compile a graph of one node that calls a model as often as the chain has nodes.

    Args:
        kind: `model` (a chat model of LangChain's) or `litellm`.
        with_spans: Whether each call is in one plain SDK span with ten attributes.
    """
    tracer = trace.get_tracer("bench")
    call = {"model": _model, "litellm": _litellm}[kind]()

    def node(state: State) -> State:
        for _ in range(NODES):
            if with_spans:
                with tracer.start_as_current_span("call", attributes=TEN_ATTRIBUTES):
                    call()
            else:
                call()
        return {"n": state["n"] + 1}

    graph = StateGraph(State)
    graph.add_node("calls", node)
    graph.add_edge(START, "calls")
    return graph.compile(name="calls")


def _model() -> Callable[[], object]:
    usage = {"input_tokens": 20, "output_tokens": 10, "total_tokens": 30}
    answers = (AIMessage("yes", usage_metadata=usage) for _ in itertools.count())  # pyright: ignore[reportArgumentType]
    model = GenericFakeChatModel(messages=answers)
    return lambda: model.invoke("?")


def _litellm() -> Callable[[], object]:
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    import litellm  # a process that does not measure it must not pay for it

    asked = [{"role": "user", "content": "?"}]
    return lambda: litellm.completion("gpt-4o-mini", asked, mock_response="yes")
