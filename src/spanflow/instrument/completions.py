"""Reads LiteLLM's requests and answers: model, provider, usage, cost, and what was said.

LiteLLM gives every provider's answer the shape of OpenAI's. What was said is read only where
content is captured. Everything is read defensively: an answer of an unknown shape is a call without
usage, never an error. This module opens and ends nothing.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final, cast

from opentelemetry.util.genai.types import (  # pyright: ignore[reportMissingTypeStubs]
    InputMessage,
    MessagePart,
    OutputMessage,
    TextPart,
    ToolCallRequestPart,
    ToolCallResponsePart,
)

from spanflow import semconv
from spanflow.capture.payload import clean, payload_of
from spanflow.capture.providers import provider_name
from spanflow.instrument.messages import keep_on_record
from spanflow.instrument.parts import first_part, part
from spanflow.spending import TOKEN_FIELDS, Usage

if TYPE_CHECKING:
    from spanflow.capture.call import OpenCall

__all__ = [
    "Pieces",
    "answered_by",
    "describe_answer",
    "describe_request",
    "is_cached",
    "provider_asked",
    "saved_by",
    "spent_on",
]

_NOTHING: Final = Usage(0, 0, total_tokens=0, cost_usd=0.0)
_PARAMETERS: Final = ("temperature", "top_p", "max_tokens", "seed")


def provider_asked(model: str | None, told: object) -> str | None:
    """Return who is asked to serve `model`, as far as that is known before there is an answer."""
    if isinstance(told, str) and told:
        return provider_name(told)
    litellm: Any = sys.modules["litellm"]
    prefix = (model or "").partition("/")[0]
    if prefix != model and prefix in litellm.provider_list:
        return provider_name(prefix)
    known = part(litellm.model_cost.get(model), "litellm_provider")
    return provider_name(known) if isinstance(known, str) else None


def describe_request(call: OpenCall, request: dict[str, Any], limit: int) -> None:
    """Put the request's parameters on the call, and what was said where content is captured."""
    invocation: Any = call.invocation
    if call.kind != "llm":
        return
    for name in _PARAMETERS:
        value = request.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool):
            setattr(invocation, name, value)
    if not call.captures_content:
        return
    asked = request.get("messages", request.get("input", request.get("prompt")))
    if asked is not None:
        messages = cast("list[Any]", asked) if isinstance(asked, list) else [asked]
        invocation.input_messages = [
            InputMessage(_text(part(m, "role")) or "user", _parts(m, limit)) for m in messages
        ]
        keep_on_record(call, semconv.GEN_AI_INPUT_MESSAGES, invocation.input_messages, limit)


def describe_answer(call: OpenCall, answer: Any, limit: int) -> Usage:
    """Put an answer on the call and return what it spent.

    Args:
        call: The call that it answers.
        answer: A response of LiteLLM's, or anything else.
        limit: The longest text kept, in bytes.
    """
    _identify(call, answer)
    usage = spent_on(answer)
    _note_usage(call, usage)
    if call.captures_content and call.kind == "llm":
        said = _answers(answer, limit)
        if said:
            _say(call, said, limit)
    return usage


def spent_on(answer: Any) -> Usage:
    """Return what an answer cost; one from the cache cost nothing, whatever it repeats."""
    if is_cached(answer):
        return _NOTHING
    told = _hidden(answer)
    usage = _usage_of(part(answer, "usage"))
    if usage.cost_usd is not None:
        return usage
    return _priced(usage, part(told, "response_cost"), answer, told)


def is_cached(answer: Any) -> bool:
    """Whether an answer came out of LiteLLM's own cache, so that nobody was asked."""
    return part(_hidden(answer), "cache_hit") is True


def saved_by(answer: Any) -> dict[str, Any]:
    """Return the tokens that a cached answer repeats, and that nobody has to pay again."""
    usage = _usage_of(part(answer, "usage"))
    return {"input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens}


class Pieces:
    """What the pieces of a streamed answer say, as they pass by."""

    def __init__(self, *, captures_content: bool, limit: int) -> None:
        self._captures_content = captures_content
        self._limit = limit
        self._last: Any = None
        self._usage: Any = None
        self._texts: dict[int, list[str]] = {}
        self._size = 0
        self._reasons: list[str] = []
        self._whole: Any = None

    def see(self, piece: Any) -> None:
        """Take note of one piece."""
        whole = part(piece, "response")
        if whole is not None:  # an event of the Responses API: the last one holds the answer
            self._whole = whole
            return
        self._last = piece
        self._usage = part(piece, "usage") or self._usage
        for choice in _listed(part(piece, "choices")):
            reason = _text(part(choice, "finish_reason"))
            if reason is not None and reason not in self._reasons:
                self._reasons.append(reason)
            said = part(part(choice, "delta"), "content") or part(choice, "text")
            if self._captures_content and isinstance(said, str) and self._size < self._limit:
                self._size += len(said)
                index = part(choice, "index")
                self._texts.setdefault(index if isinstance(index, int) else 0, []).append(said)

    def is_cached(self, stream: Any) -> bool:
        """Whether the stream only repeats an answer out of LiteLLM's cache."""
        return part(stream, "custom_llm_provider") == "cached_response"

    def describe(self, call: OpenCall, stream: Any) -> Usage:
        """Put what was seen on the call and return what it spent.

        Args:
            call: The call that it answers.
            stream: The stream of LiteLLM's that has ended, or was left.
        """
        if self._whole is not None:
            return describe_answer(call, self._whole, self._limit)
        _identify(call, self._last)
        usage = self.spent(stream)
        _note_usage(call, usage)
        if call.kind != "llm":
            return usage
        if self._reasons:
            invocation: Any = call.invocation
            invocation.finish_reasons = self._reasons
        if self._texts:
            said = [
                OutputMessage("assistant", _parts("".join(t), self._limit), finish_reason="stop")
                for _, t in sorted(self._texts.items())
            ]
            _say(call, said, self._limit)
        return usage

    def answered_by(self) -> tuple[str | None, str | None]:
        """Return the provider and the model that answered."""
        return answered_by(self._last if self._whole is None else self._whole)

    def spent(self, stream: Any) -> Usage:
        """Return what the stream cost, where a provider told it."""
        if self._whole is not None:
            return spent_on(self._whole)
        if self.is_cached(stream):
            return _NOTHING
        told = _hidden(self._last)
        usage = self._usage
        if usage is None and any(part(p, "usage") for p in _listed(part(stream, "chunks"))):
            # A provider told it, and LiteLLM keeps it from who did not ask. Where none did, there
            # stands LiteLLM's own estimate, which is no usage.
            usage = part(told, "usage")
        found = _usage_of(usage)
        if not found.known or found.cost_usd is not None:
            return found
        try:
            cost = sum(
                cast("Any", sys.modules["litellm"]).cost_per_token(
                    model=part(self._last, "model"),
                    custom_llm_provider=part(told, "custom_llm_provider"),
                    usage_object=usage,
                )
            )
        except Exception:  # noqa: BLE001 - its way of saying that it knows no price
            return found
        return _priced(found, cost, self._last, told)


def answered_by(answer: Any) -> tuple[str | None, str | None]:
    """Return the provider that served an answer, or a piece of it, and the model that gave it."""
    told = _hidden(answer)
    served_by = _text(part(told, "custom_llm_provider"))
    if served_by == "cached_response":
        served_by = None
    provider = provider_asked(_text(part(told, "litellm_model_name")), served_by)
    model = _text(part(answer, "model"))
    prefix, _, rest = (model or "").partition("/")
    if rest and prefix in cast("Any", sys.modules["litellm"]).provider_list:
        model = rest
    return provider, model


def _identify(call: OpenCall, answer: Any) -> None:
    """Put on the call who answered."""
    call.say_who_answered(*answered_by(answer))
    invocation: Any = call.invocation
    response_id = _text(part(answer, "id"))
    if response_id is not None and call.kind == "llm":
        invocation.response_id = call.fields["response_id"] = response_id


def _usage_of(told: Any) -> Usage:
    """Read a usage of either API; LiteLLM writes zeros where a provider tells nothing."""
    given = first_part(told, "prompt_tokens", "input_tokens")
    produced = first_part(told, "completion_tokens", "output_tokens")
    total = part(told, "total_tokens")
    if not given and not produced and not total:
        return Usage()
    into = part(told, "prompt_tokens_details") or part(told, "input_tokens_details")
    out = part(told, "completion_tokens_details") or part(told, "output_tokens_details")
    return Usage.of(
        input_tokens=given,
        output_tokens=produced,
        total_tokens=total or None,
        cache_read_tokens=first_part(into, "cached_tokens"),
        cache_write_tokens=first_part(into, "cache_creation_tokens", "cache_write_tokens"),
        reasoning_tokens=first_part(out, "reasoning_tokens"),
        cost_usd=part(told, "cost"),
    )


def _priced(usage: Usage, cost: Any, answer: Any, told: Any) -> Usage:
    """Return the usage with LiteLLM's cost; its zero for a model that it does not know is none."""
    if cost == 0 and usage.known and not _is_free(answer, told):
        cost = None
    if not isinstance(cost, int | float):
        return usage
    return Usage.of(**_fields(usage), cost_usd=cost, flags=usage.flags)


def _is_free(answer: Any, told: Any) -> bool:
    prices = cast("Any", sys.modules["litellm"]).model_cost
    names = (part(told, "litellm_model_name"), part(answer, "model"))
    return any(part(prices.get(name), "input_cost_per_token") == 0 for name in names)


def _fields(usage: Usage) -> dict[str, Any]:
    return {name: getattr(usage, name) for name in TOKEN_FIELDS}


def _note_usage(call: OpenCall, usage: Usage) -> None:
    invocation: Any = call.invocation
    invocation.input_tokens = usage.input_tokens
    if call.kind == "llm":
        invocation.output_tokens = usage.output_tokens
        invocation.cache_read_input_tokens = usage.cache_read_tokens
        invocation.cache_write_input_tokens = usage.cache_write_tokens
        invocation.thinking_tokens = usage.reasoning_tokens


def _say(call: OpenCall, said: list[OutputMessage], limit: int) -> None:
    invocation: Any = call.invocation
    invocation.output_messages = said
    keep_on_record(call, semconv.GEN_AI_OUTPUT_MESSAGES, said, limit)


def _answers(answer: Any, limit: int) -> list[OutputMessage]:
    choices = _listed(part(answer, "choices"))
    if choices:
        return [
            OutputMessage(
                role="assistant",
                parts=_parts(part(choice, "message") or part(choice, "text"), limit),
                finish_reason=_text(part(choice, "finish_reason")) or "stop",
            )
            for choice in choices
        ]
    text = part(answer, "output_text")
    return [OutputMessage("assistant", _parts(text, limit), finish_reason="stop")] if text else []


def _parts(message: Any, limit: int) -> list[MessagePart]:
    """Return a message as the parts the conventions know; what they do not know is JSON text."""
    content = part(message, "content") if part(message, "role") is not None else message
    if part(message, "role") == "tool":
        told = payload_of(content, limit).text
        return [ToolCallResponsePart(response=told, id=_text(part(message, "tool_call_id")))]
    parts: list[MessagePart] = []
    for block in _listed(content) if isinstance(content, list) else [content]:
        said = part(block, "text")
        value = said if isinstance(said, str) else block
        if value not in (None, ""):
            parts.append(TextPart(payload_of(value, limit).text))
    for request in _listed(part(message, "tool_calls")):
        function = part(request, "function")
        parts.append(
            ToolCallRequestPart(
                arguments=payload_of(part(function, "arguments"), limit).text,
                name=clean(part(function, "name")),
                id=_text(part(request, "id")),
            )
        )
    return parts


def _hidden(answer: Any) -> Any:
    """Return what LiteLLM knows of an answer beside it: a mapping or an object, or None."""
    return getattr(answer, "_hidden_params", None)


def _listed(value: Any) -> list[Any]:
    return cast("list[Any]", value) if isinstance(value, list) else []


def _text(value: Any) -> str | None:
    return clean(value) if isinstance(value, str) and value else None
