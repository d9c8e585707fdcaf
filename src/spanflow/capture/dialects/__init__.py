"""Reads what anybody's span says of a call to a model, a tool or a retriever, whatever its dialect.

It understands the OpenTelemetry GenAI conventions with their older names, OpenInference,
OpenLLMetry, Langfuse, LangSmith and LiteLLM; each of the last three has a module beside this one.
It reads leaf calls only: an agent's, a workflow's or a chain's span repeats what its calls spent.
Values are believed only where they have the right type, and nothing a span says makes it raise.
What a reading is worth beside others is the tally's question.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from spanflow import semconv
from spanflow.capture.dialects import langfuse, langsmith, litellm, names
from spanflow.capture.dialects.content import is_content
from spanflow.capture.dialects.details import first
from spanflow.capture.dialects.kinds import Kind, kind_of, operation_of
from spanflow.spending import BORROWED, Usage

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Kind", "Reading", "is_content", "read_span", "told_usage"]


@dataclass(frozen=True, slots=True)
class Reading:
    """What a span says of the call it stands for; null is not said.

    Attributes:
        kind: What was called.
        operation: The conventions' name for it: `chat`, `text_completion`, `generate_content`,
            `embeddings`, `execute_tool` or `retrieval`.
        provider: Who serves the model.
        model: The model that answered, else the one asked.
        request_model: The model asked for.
        response_id: The provider's id of the answer.
        usage: What was spent. Its flag `borrowed` says that the span itself is somebody else's,
            wider than the call whose numbers were written onto it.
        tool_name: The tool, or the retriever.
        call_id: The id under which the model asked for the tool.
        arguments: What the tool was given, as text. Content: whether it may be kept is for
            others to say.
        result: What the tool gave back, as text; content too.
        user_id: The user for whom it was called.
        session_id: The session in which it was called.
        conversation_id: The conversation or thread in which it was called.
        agent_name: The agent that called.
        time_to_first_token_ms: From the start of the call until the first piece of the answer.
    """

    kind: Kind
    operation: str
    provider: str | None
    model: str | None
    request_model: str | None
    response_id: str | None
    usage: Usage
    tool_name: str | None
    call_id: str | None
    arguments: str | None
    result: str | None
    user_id: str | None
    session_id: str | None
    conversation_id: str | None
    agent_name: str | None
    time_to_first_token_ms: float | None


def read_span(
    name: str,
    kind: str | None,  # noqa: ARG001 - no dialect needs it yet, and every caller has it
    scope: str,
    attributes: Mapping[str, object],
    started_ns: int | None = None,
) -> Reading | None:
    """Read a finished span, or return None where it stands for no call.

    Args:
        name: The span's name.
        kind: The span's kind (`CLIENT`, `INTERNAL`, …).
        scope: The name of the instrumentation scope that made it.
        attributes: What it says, of any type; other people's values are not trusted.
        started_ns: When it started, in nanoseconds since the epoch; needed only for the time to
            the first token where a dialect tells the moment instead of the duration.
    """
    called = kind_of(attributes)
    if called is None:
        return None
    # The SDK's own mapping takes several times as long to ask, above all for what is not there.
    attributes = dict(attributes)
    asked = _text(attributes, names.REQUEST_MODEL)
    is_tool = called == "tool"
    return Reading(
        kind=called,
        operation=operation_of(called, attributes),
        provider=_text(attributes, names.PROVIDER),
        model=_text(attributes, names.RESPONSE_MODEL) or asked,
        request_model=asked,
        response_id=_text(attributes, (semconv.GEN_AI_RESPONSE_ID,)),
        usage=_usage(called, name, scope, attributes),
        tool_name=_tool_name(called, name, attributes),
        call_id=_text(attributes, names.CALL_ID) if is_tool else None,
        arguments=_text(attributes, names.ARGUMENTS) if is_tool else None,
        result=_text(attributes, names.RESULT) if is_tool else None,
        user_id=_text(attributes, names.USER_ID),
        session_id=_text(attributes, names.SESSION_ID),
        conversation_id=_text(attributes, names.CONVERSATION_ID),
        agent_name=_text(attributes, names.AGENT_NAME),
        time_to_first_token_ms=_first_token(attributes, started_ns),
    )


def told_usage(attributes: Mapping[str, object]) -> Usage:
    """Return the sums that a span tells which is no call, such as an agent's."""
    attributes = dict(attributes)
    raw = {field: first(attributes, keys) for field, keys in names.USAGE.items()}
    return Usage.of(flags=(), **raw)


def _text(attributes: Mapping[str, object], keys: tuple[str, ...]) -> str | None:
    """Return the first of these that is text and says something; "unknown" says nothing."""
    for key in keys:
        value = attributes.get(key)
        if isinstance(value, str) and value and value.lower() != "unknown":
            return value
    return None


def _tool_name(kind: Kind, name: str, attributes: Mapping[str, object]) -> str | None:
    if kind not in {"tool", "retrieval"}:
        return None
    if kind == "tool" and (said := _text(attributes, names.TOOL_NAME)) is not None:
        return said
    return name.removeprefix("execute_tool ").removeprefix("retrieval ") or None


def _usage(kind: Kind, name: str, scope: str, attributes: Mapping[str, object]) -> Usage:
    if kind not in {"llm", "embeddings"}:
        return Usage()
    raw = {field: first(attributes, keys) for field, keys in names.USAGE.items()}
    for more in (langsmith.usage(attributes), litellm.usage(attributes)):
        raw |= {field: value for field, value in more.items() if raw[field] is None}
    raw |= langfuse.usage(attributes)
    if kind == "embeddings" and raw["total_tokens"] is None and raw["output_tokens"] is None:
        # Embeddings have no output, so the input is the whole.
        raw["total_tokens"] = raw["input_tokens"]
    borrowed = litellm.is_borrowed(name, scope, attributes)
    return Usage.of(**raw, flags=(BORROWED,) if borrowed else ())


def _first_token(attributes: Mapping[str, object], started_ns: int | None) -> float | None:
    seconds = attributes.get(names.TIME_TO_FIRST_CHUNK)
    if isinstance(seconds, int | float) and not isinstance(seconds, bool) and 0 <= seconds < 10**9:
        return seconds * 1_000.0
    return langfuse.first_token_ms(attributes, started_ns)
