"""The graph app with LiteLLM for its models, and LiteLLM's `otel` callback.

The nodes call `litellm.completion` and do not know LangChain's models. Every answer is a mock of
LiteLLM's own, which reports the usage it is given as it would a provider's. Each call names the
span it belongs to, as LiteLLM's documentation wants it: without that name, LiteLLM writes its
numbers onto whatever span is current once it gets to it, and a stream's nowhere.
"""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

import graph_app
import litellm
from langchain_core.messages import AIMessage, AIMessageChunk
from litellm.types.utils import CompletionTokensDetailsWrapper, PromptTokensDetailsWrapper, Usage
from opentelemetry import trace

if TYPE_CHECKING:
    from collections.abc import Iterator


class Model:
    """What the graph's nodes ask, with LiteLLM behind it."""

    def __init__(
        self,
        answer: str = "fine",
        spends: tuple[int, int, int, int] = (1, 1, 0, 0),
        asks_for: dict[str, Any] | None = None,
    ) -> None:
        """Say one thing; `spends` is input, output, of which cached, of which reasoning."""
        self.answer = answer
        self.spends = spends
        self.asks_for = asks_for

    def _ask(self, messages: list[Any], *, stream: bool) -> Any:
        del messages
        given, produced, cached, reasoned = self.spends
        graph_app.books.spent(graph_app.usage(*self.spends))
        reply = litellm.ModelResponse(
            model="gpt-4o-mini",
            choices=[
                litellm.Choices(message=litellm.Message(content=self.answer), finish_reason="stop")
            ],
            usage=Usage(
                prompt_tokens=given,
                completion_tokens=produced,
                total_tokens=given + produced,
                prompt_tokens_details=PromptTokensDetailsWrapper(cached_tokens=cached),
                completion_tokens_details=CompletionTokensDetailsWrapper(reasoning_tokens=reasoned),
            ),
        )
        asks = {}
        if self.asks_for:
            call = {"name": self.asks_for["name"], "arguments": json.dumps(self.asks_for["args"])}
            asks["mock_tool_calls"] = [
                {"id": self.asks_for["id"], "type": "function", "function": call}
            ]
        if stream:
            asks |= {"stream": True, "stream_options": {"include_usage": True}}
        return litellm.completion(
            "openai/gpt-4o-mini",
            [{"role": "user", "content": "where shall we live?"}],
            mock_response=reply,
            metadata={"litellm_parent_otel_span": trace.get_current_span()},
            **asks,
        )

    def invoke(self, messages: list[Any]) -> AIMessage:
        """Ask for one answer."""
        reply = self._ask(messages, stream=False)
        return AIMessage(
            reply.choices[0].message.content or "",
            tool_calls=[self.asks_for] if self.asks_for else [],
        )

    def batch(self, asked: list[list[Any]]) -> list[AIMessage]:
        """Ask for several answers at the same time."""
        with ThreadPoolExecutor() as pool:
            asking = [pool.submit(copy_context().run, self.invoke, each) for each in asked]
            return [each.result() for each in asking]

    def stream(self, messages: list[Any]) -> Iterator[AIMessageChunk]:
        """Ask for an answer piece by piece; the last piece tells the usage."""
        for chunk in self._ask(messages, stream=True):
            if chunk.choices:
                yield AIMessageChunk(chunk.choices[0].delta.content or "")


if __name__ == "__main__":
    litellm.callbacks = ["otel"]
    graph_app.Model = Model
    graph_app.main()
