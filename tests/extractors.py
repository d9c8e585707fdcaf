"""Real clients of OpenAI's and Anthropic's for tests of extraction, on servers in the process."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import anthropic
import httpx
import httpx2
import openai
from completions import litellm
from pydantic import BaseModel

if TYPE_CHECKING:
    from collections.abc import Callable

GOOD = {"budget": 95000, "area": "Shibuya"}
BAD = {"budget": "a lot, says Mr. Secret", "area": "Shibuya"}


class BudgetInfo(BaseModel):
    """What somebody may spend, and where."""

    budget: int
    area: str


class Server:
    """Answers one request after the other with arguments for a tool, 64 and 20 tokens the first.

    Each later request costs 100 and 1 more. An integer among the answers is a status of HTTP, and
    None an answer that was cut off.
    """

    def __init__(self, *answers: Any, cached: int = 0) -> None:
        self.answers = list(answers)
        self.cached = cached
        self.asked: list[dict[str, Any]] = []

    def _next(self, request: Any) -> tuple[int, int, Any]:
        self.asked.append(json.loads(request.content))
        tried = len(self.asked) - 1
        return 64 + 100 * tried, 20 + tried, self.answers[min(tried, len(self.answers) - 1)]

    def as_openai(self, request: httpx.Request) -> httpx.Response:
        given, produced, values = self._next(request)
        if isinstance(values, int):
            return httpx.Response(values, json={"error": {"message": "no"}})
        call = {"name": "BudgetInfo", "arguments": json.dumps(values or {"budget": 1})}
        message = {
            "role": "assistant",
            "content": call["arguments"],  # for modes without tools
            "tool_calls": [{"id": "call-1", "type": "function", "function": call}],
        }
        return httpx.Response(
            200,
            json={
                "id": f"chatcmpl-{len(self.asked)}",
                "object": "chat.completion",
                "created": 1,
                "model": "gpt-4o-mini-2024-07-18",
                "choices": [
                    {
                        "index": 0,
                        "message": message,
                        "finish_reason": "length" if values is None else "tool_calls",
                    }
                ],
                "usage": {
                    "prompt_tokens": given,
                    "completion_tokens": produced,
                    "total_tokens": given + produced,
                    "prompt_tokens_details": {"cached_tokens": self.cached},
                },
            },
        )

    def as_anthropic(self, request: Any) -> Any:
        given, produced, values = self._next(request)
        return httpx2.Response(
            200,
            json={
                "id": f"msg-{len(self.asked)}",
                "type": "message",
                "role": "assistant",
                "model": "claude-sonnet-4",
                "content": [
                    {"type": "tool_use", "id": "call-1", "name": "BudgetInfo", "input": values}
                ],
                "stop_reason": "tool_use",
                "stop_sequence": None,
                "usage": {
                    "input_tokens": given - self.cached,
                    "output_tokens": produced,
                    "cache_read_input_tokens": self.cached,
                    "cache_creation_input_tokens": 0,
                },
            },
        )

    def openai(self) -> openai.OpenAI:
        return openai.OpenAI(
            api_key="none",
            max_retries=0,
            http_client=httpx.Client(transport=httpx.MockTransport(self.as_openai)),
        )

    def async_openai(self) -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(
            api_key="none",
            max_retries=0,
            http_client=httpx.AsyncClient(transport=httpx.MockTransport(self.as_openai)),
        )

    def anthropic(self) -> anthropic.Anthropic:
        return anthropic.Anthropic(
            api_key="none",
            max_retries=0,
            http_client=httpx2.Client(transport=httpx2.MockTransport(self.as_anthropic)),
        )

    def completion(self) -> Callable[..., Any]:
        """LiteLLM's own function, answered as this server answers."""

        def ask(**request: Any) -> Any:
            return litellm.completion(**request, mock_response=self._mocked())

        return ask

    def acompletion(self) -> Callable[..., Any]:
        """LiteLLM's own coroutine, answered as this server answers."""

        async def ask(**request: Any) -> Any:
            return await litellm.acompletion(**request, mock_response=self._mocked())

        return ask

    def _mocked(self) -> Any:
        request = httpx.Request("POST", "http://here", json={})
        return litellm.ModelResponse(**self.as_openai(request).json())
