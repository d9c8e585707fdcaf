"""Reads LangChain's requests and responses: provider, model, usage, and what was said.

Messages are read only where content is captured. Everything is read defensively: a response of an
unknown shape is a call without usage, never an error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import orjson
from opentelemetry.util.genai.types import (  # pyright: ignore[reportMissingTypeStubs]
    InputMessage,
    MessagePart,
    OutputMessage,
    TextPart,
    ToolCallRequestPart,
    ToolCallResponsePart,
)

from spanflow import semconv
from spanflow.capture.payload import clean, fitted, jsonable, payload_of
from spanflow.capture.providers import provider_name
from spanflow.spending import Usage

if TYPE_CHECKING:
    from collections.abc import Iterable

    from spanflow.capture.call import OpenCall

__all__ = [
    "describe_request",
    "describe_response",
    "keep_on_record",
    "model_attribute",
    "model_of",
    "provider_of",
    "provider_of_class",
]

_ROLES = {"human": "user", "ai": "assistant", "AIMessageChunk": "assistant"}


def provider_of(serialized: dict[str, Any] | None, metadata: dict[str, Any] | None) -> str:
    """Return ``gen_ai.provider.name`` for a model call, as far as LangChain tells."""
    told = (metadata or {}).get("ls_provider")
    if isinstance(told, str) and told:
        return provider_name(told)
    path = (serialized or {}).get("id")
    return clean(_listed(path)[-1]).lower() if isinstance(path, list) and path else "unknown"


def provider_of_class(kind: type) -> str:
    """Return a provider's name from where its class lives: ``langchain_openai`` → ``openai``."""
    package = kind.__module__.partition(".")[0]
    return provider_name(package.removeprefix("langchain_"))


def model_of(metadata: dict[str, Any] | None, params: dict[str, Any]) -> str | None:
    """Return the model that was asked for."""
    for value in (
        params.get("model"),
        params.get("model_name"),
        (metadata or {}).get("ls_model_name"),
    ):
        if isinstance(value, str) and value:
            return clean(value)
    return None


def model_attribute(model: Any) -> str | None:
    """Return the model's name from the attributes LangChain's classes commonly give it."""
    for attribute in ("model", "model_name", "model_id"):
        value = getattr(model, attribute, None)
        if isinstance(value, str) and value:
            return clean(value)
    return None


def describe_request(call: OpenCall, inputs: list[Any], params: dict[str, Any], limit: int) -> None:
    """Put the request's parameters on the call, and its messages where content is captured."""
    invocation: Any = call.invocation
    for ours, theirs in (
        ("temperature", "temperature"),
        ("top_p", "top_p"),
        ("max_tokens", "max_tokens"),
        ("seed", "seed"),
    ):
        value = params.get(theirs)
        if isinstance(value, int | float) and not isinstance(value, bool):
            setattr(invocation, ours, value)
    if not call.captures_content or not inputs:
        return
    invocation.input_messages = [
        InputMessage(_role(m), _parts(m, limit)) for m in _listed(inputs[0])
    ]
    keep_on_record(call, semconv.GEN_AI_INPUT_MESSAGES, invocation.input_messages, limit)


def describe_response(call: OpenCall, response: Any, limit: int) -> Usage:
    """Put the answer on the call and return what it spent.

    Args:
        call: The call that ended.
        response: LangChain's ``LLMResult``, or anything else.
        limit: The longest text kept, in bytes.
    """
    invocation: Any = call.invocation
    generations = _generations(response)
    answers = [m for m in (getattr(g, "message", None) for g in generations) if m is not None]
    told = _first(getattr(m, "response_metadata", None) for m in answers) or {}
    model = _text(told.get("model_name")) or _text(told.get("model"))
    if model is not None:
        invocation.response_model_name = call.fields["model"] = model
    response_id = _text(told.get("id"))
    if response_id is not None:
        invocation.response_id = call.fields["response_id"] = response_id
    reasons = [
        _text(_info(g).get("finish_reason") or told.get("finish_reason")) for g in generations
    ]
    if kept := [reason for reason in reasons if reason]:
        invocation.finish_reasons = kept
    usage = _usage(answers, getattr(response, "llm_output", None))
    invocation.input_tokens = usage.input_tokens
    invocation.output_tokens = usage.output_tokens
    invocation.cache_read_input_tokens = usage.cache_read_tokens
    invocation.cache_write_input_tokens = usage.cache_write_tokens
    invocation.thinking_tokens = usage.reasoning_tokens
    if call.captures_content and generations:
        invocation.output_messages = [
            OutputMessage(
                role="assistant",
                parts=_parts(getattr(g, "message", None) or getattr(g, "text", ""), limit),
                finish_reason=_text(_info(g).get("finish_reason")) or "stop",
            )
            for g in generations
        ]
        keep_on_record(call, semconv.GEN_AI_OUTPUT_MESSAGES, invocation.output_messages, limit)
    return usage


def _generations(response: Any) -> list[Any]:
    groups = getattr(response, "generations", None)
    if not isinstance(groups, list):
        return []
    return [g for group in _listed(groups) for g in _listed(group)]


def _usage(answers: list[Any], llm_output: Any) -> Usage:
    """Read ``usage_metadata``, else the provider's own ``token_usage``; choices share one usage."""
    told = _first(getattr(m, "usage_metadata", None) for m in answers)
    if told:
        given, produced = (
            _dict(told.get("input_token_details")),
            _dict(told.get("output_token_details")),
        )
        return Usage.of(
            input_tokens=told.get("input_tokens"),
            output_tokens=told.get("output_tokens"),
            total_tokens=told.get("total_tokens"),
            cache_read_tokens=given.get("cache_read"),
            cache_write_tokens=given.get("cache_creation"),
            reasoning_tokens=produced.get("reasoning"),
        )
    told = _dict(_dict(llm_output).get("token_usage") or _dict(llm_output).get("usage"))
    return Usage.of(
        input_tokens=told.get("prompt_tokens", told.get("input_tokens")),
        output_tokens=told.get("completion_tokens", told.get("output_tokens")),
        total_tokens=told.get("total_tokens"),
    )


def _role(message: Any) -> str:
    kind = getattr(message, "type", None)
    return _ROLES.get(kind, clean(kind)) if isinstance(kind, str) else "user"


def _parts(message: Any, limit: int) -> list[MessagePart]:
    """Return a message as the parts the GenAI conventions know.

    What is neither text nor tool call becomes JSON text.
    """
    if isinstance(message, str):
        return [TextPart(payload_of(message, limit).text)]
    content = getattr(message, "content", message)
    if getattr(message, "type", None) == "tool":
        text = payload_of(content, limit).text
        return [
            ToolCallResponsePart(response=text, id=_text(getattr(message, "tool_call_id", None)))
        ]
    parts: list[MessagePart] = []
    for block in _listed(content):
        text = _dict(block).get("text")
        value = text if isinstance(text, str) else block
        if value != "":
            parts.append(TextPart(payload_of(value, limit).text))
    for request in getattr(message, "tool_calls", None) or ():
        arguments = payload_of(request.get("args"), limit)
        parts.append(
            ToolCallRequestPart(
                arguments=arguments.text
                if arguments.truncated
                else jsonable(request.get("args"), limit),
                name=clean(request.get("name")),
                id=_text(request.get("id")),
            )
        )
    return parts


def keep_on_record(call: OpenCall, key: str, messages: list[Any], limit: int) -> None:
    """Keep what was said under `key` in the record's attributes, cut to `limit` bytes."""
    kept = fitted([_plain(m) for m in messages], limit)
    value: Any = kept.text if kept.truncated else orjson.loads(kept.text)
    attributes = call.fields.setdefault("attributes", {})
    attributes[key] = value
    if kept.truncated:
        attributes[semconv.PAYLOAD_TRUNCATED] = True
        attributes[semconv.PAYLOAD_ORIGINAL_SIZE] = kept.original_size


def _plain(message: Any) -> dict[str, Any]:
    return {"role": message.role, "parts": [vars(part) for part in message.parts]}


def _first(values: Iterable[Any]) -> dict[str, Any] | None:
    return next((found for value in values if (found := _dict(value))), None)


def _info(generation: Any) -> dict[str, Any]:
    return _dict(getattr(generation, "generation_info", None))


def _dict(value: Any) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _listed(value: Any) -> list[Any]:
    return cast("list[Any]", value) if isinstance(value, list) else [value]


def _text(value: Any) -> str | None:
    return clean(value) if isinstance(value, str) and value else None
