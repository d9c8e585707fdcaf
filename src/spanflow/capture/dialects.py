"""Reads what anybody's span says of a call to a model, a tool or a retriever, whatever its dialect.

It understands the OpenTelemetry GenAI conventions with their older names, OpenInference,
OpenLLMetry, Langfuse, LangSmith and LiteLLM. It reads leaf calls only: an agent's, a workflow's or
a chain's span repeats what its calls spent. Values are believed only where they have the right
type, and nothing a span says makes it raise. What a reading is worth beside others is the tally's
question.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final, Literal, cast

from spanflow import semconv
from spanflow.tally import BORROWED, Usage

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Kind", "Reading", "is_content", "read_span"]

Kind = Literal["llm", "embeddings", "tool", "retrieval"]

# The foreign keys that say what a span is, in the order they are asked. The first that is there
# decides, also that a span is no call: LangSmith writes the conventions' operation "chat" on its
# prompt templates and "embeddings" on its retrievers.
_LANGSMITH_KIND: Final = "langsmith.span.kind"
_LANGFUSE_TYPE: Final = "langfuse.observation.type"
_OPENINFERENCE_KIND: Final = "openinference.span.kind"
_TRACELOOP_KIND: Final = "traceloop.span.kind"
_REQUEST_TYPE: Final = "llm.request.type"

_KINDS: Final[dict[str, dict[str, Kind]]] = {
    _LANGSMITH_KIND: {
        "llm": "llm",
        "embedding": "embeddings",
        "tool": "tool",
        "retriever": "retrieval",
    },
    _LANGFUSE_TYPE: {
        "generation": "llm",
        "embedding": "embeddings",
        "tool": "tool",
        "retriever": "retrieval",
    },
    _OPENINFERENCE_KIND: {
        "llm": "llm",
        "embedding": "embeddings",
        "tool": "tool",
        "retriever": "retrieval",
    },
    semconv.GEN_AI_OPERATION_NAME: {
        "chat": "llm",
        "text_completion": "llm",
        "generate_content": "llm",
        "embeddings": "embeddings",
        "execute_tool": "tool",
        "retrieval": "retrieval",
        # LiteLLM puts the name of its own function there.
        "acompletion": "llm",
        "completion": "llm",
        "atext_completion": "llm",
        "agenerate_content": "llm",
        "anthropic_messages": "llm",
        "responses": "llm",
        "aresponses": "llm",
        "embedding": "embeddings",
        "aembedding": "embeddings",
    },
    _TRACELOOP_KIND: {"tool": "tool"},
    # OpenLLMetry before it wrote the operation's name.
    _REQUEST_TYPE: {"chat": "llm", "completion": "llm", "embedding": "embeddings"},
}

_OPERATIONS: Final[dict[str, str]] = {
    "text_completion": "text_completion",
    "atext_completion": "text_completion",
    "generate_content": "generate_content",
    "agenerate_content": "generate_content",
}
_OPERATION_OF: Final[dict[Kind, str]] = {
    "llm": "chat",
    "embeddings": "embeddings",
    "tool": "execute_tool",
    "retrieval": "retrieval",
}

# Where each field may stand, the conventions' present name first.
_PROVIDER: Final = (
    # LangChain's own word, where the conventions' key says just "langchain".
    "langsmith.metadata.ls_provider",
    "traceloop.association.properties.ls_provider",
    semconv.GEN_AI_PROVIDER_NAME,
    semconv.GEN_AI_SYSTEM,
    "llm.provider",
    "llm.system",
)
_RESPONSE_MODEL: Final = (
    semconv.GEN_AI_RESPONSE_MODEL,
    "llm.model_name",
    "embedding.model_name",
    "langfuse.observation.model.name",
)
_REQUEST_MODEL: Final = (
    semconv.GEN_AI_REQUEST_MODEL,
    "langsmith.metadata.ls_model_name",
    "traceloop.association.properties.ls_model_name",
)
_TOOL_NAME: Final = (semconv.GEN_AI_TOOL_NAME, "tool.name", "traceloop.entity.name")
_CALL_ID: Final = (semconv.GEN_AI_TOOL_CALL_ID, "tool_call.id", "tool.id")
_ARGUMENTS: Final = (
    semconv.GEN_AI_TOOL_ARGUMENTS,
    "traceloop.entity.input",
    "input.value",
    "langfuse.observation.input",
    "gen_ai.prompt",
)
_RESULT: Final = (
    semconv.GEN_AI_TOOL_RESULT,
    "traceloop.entity.output",
    "output.value",
    "langfuse.observation.output",
    "gen_ai.completion",
)
_USER_ID: Final = (
    semconv.USER_ID,
    "traceloop.association.properties.user_id",
    "langsmith.metadata.user_id",
    "metadata.user_id",
)
_SESSION_ID: Final = (
    semconv.SESSION_ID,
    "traceloop.association.properties.session_id",
    "langsmith.metadata.session_id",
    "metadata.session_id",
)
_CONVERSATION_ID: Final = (
    semconv.GEN_AI_CONVERSATION_ID,
    "traceloop.association.properties.thread_id",
    "langsmith.metadata.thread_id",
    "metadata.thread_id",
)
_AGENT_NAME: Final = (semconv.GEN_AI_AGENT_NAME, "agent.name")
_USAGE: Final = {
    "input_tokens": (
        semconv.GEN_AI_USAGE_INPUT_TOKENS,
        "gen_ai.usage.prompt_tokens",
        "llm.token_count.prompt",
    ),
    "output_tokens": (
        semconv.GEN_AI_USAGE_OUTPUT_TOKENS,
        "gen_ai.usage.completion_tokens",
        "llm.token_count.completion",
    ),
    "total_tokens": (
        "gen_ai.usage.total_tokens",
        "llm.token_count.total",
        "llm.usage.total_tokens",
    ),
    "cache_read_tokens": (
        semconv.GEN_AI_USAGE_CACHE_READ,
        "gen_ai.usage.cache_read_input_tokens",
        "llm.token_count.prompt_details.cache_read",
        "llm.token_count.prompt_details.cache_input",
    ),
    "cache_write_tokens": (
        semconv.GEN_AI_USAGE_CACHE_WRITE,
        semconv.GEN_AI_USAGE_CACHE_CREATION,
        "gen_ai.usage.cache_creation_input_tokens",
        "llm.token_count.prompt_details.cache_write",
    ),
    "reasoning_tokens": (
        semconv.GEN_AI_USAGE_REASONING,
        "gen_ai.usage.reasoning_tokens",
        "llm.usage.reasoning_tokens",
        "llm.token_count.completion_details.reasoning",
    ),
    "cost_usd": (semconv.USAGE_COST_USD, "gen_ai.cost.total_cost", "llm.cost.total"),
}

# Details that come as a JSON object in one attribute.
_LANGFUSE_USAGE: Final = "langfuse.observation.usage_details"
_LANGFUSE_COST: Final = "langfuse.observation.cost_details"
_LANGFUSE_FIRST_TOKEN: Final = "langfuse.observation.completion_start_time"  # noqa: S105 - a key
_LANGSMITH_INPUT_DETAILS: Final = "gen_ai.usage.input_token_details"
_LANGSMITH_OUTPUT_DETAILS: Final = "gen_ai.usage.output_token_details"
_LONGEST_DETAILS: Final = 4_096

_TIME_TO_FIRST_CHUNK: Final = "gen_ai.response.time_to_first_chunk"

# What people, models and tools said: these, and all that begins with one of them and a dot.
_CONTENT: Final = frozenset(
    {
        semconv.GEN_AI_INPUT_MESSAGES,
        semconv.GEN_AI_OUTPUT_MESSAGES,
        semconv.GEN_AI_SYSTEM_INSTRUCTIONS,
        semconv.GEN_AI_TOOL_ARGUMENTS,
        semconv.GEN_AI_TOOL_RESULT,
        "gen_ai.completion",
        "gen_ai.content",
        "gen_ai.prompt",
        "gen_ai.retrieval.documents",
        "gen_ai.retrieval.query.text",
        "gen_ai.task.input",
        "gen_ai.task.output",
        "embedding.embeddings",
        "input.documents",
        "input.images",
        "input.value",
        "langfuse.observation.input",
        "langfuse.observation.output",
        "langfuse.trace.input",
        "langfuse.trace.output",
        "llm.choices",
        "llm.content",
        "llm.function_call",
        "llm.input_messages",
        "llm.output_messages",
        "llm.prompt_template.variables",
        "llm.prompts",
        "mcp.request.argument",
        "mcp.response.value",
        "output.documents",
        "output.images",
        "output.value",
        "reranker.input_documents",
        "reranker.output_documents",
        "reranker.query",
        "retrieval.documents",
        "tool.parameters",
        "traceloop.entity.input",
        "traceloop.entity.output",
        "traceloop.prompt.template_variables",
    }
)
# LiteLLM writes a provider's raw request and answer as `llm.<provider>.<field>`.
_RAW_CONTENT: Final = (
    ".choices",
    ".content",
    ".input",
    ".messages",
    ".stringified_raw_response",
)

# LiteLLM writes these also on whatever span is current when it has no span of its own.
_LITELLM_SCOPE: Final = "litellm"
_LITELLM_NAME: Final = "litellm_request"
_LITELLM_MARKS: Final = ("litellm.call_id", "hidden_params", "gen_ai.cost.total_cost")


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
    called = _kind(attributes)
    if called is None:
        return None
    # The SDK's own mapping takes several times as long to ask, above all for what is not there.
    attributes = dict(attributes)
    asked = _text(attributes, _REQUEST_MODEL)
    is_tool = called == "tool"
    operation = attributes.get(semconv.GEN_AI_OPERATION_NAME)
    named = _OPERATIONS.get(operation) if called == "llm" and isinstance(operation, str) else None
    return Reading(
        kind=called,
        operation=named or _OPERATION_OF[called],
        provider=_text(attributes, _PROVIDER),
        model=_text(attributes, _RESPONSE_MODEL) or asked,
        request_model=asked,
        response_id=_text(attributes, (semconv.GEN_AI_RESPONSE_ID,)),
        usage=_usage(called, name, scope, attributes),
        tool_name=_tool_name(called, name, attributes),
        call_id=_text(attributes, _CALL_ID) if is_tool else None,
        arguments=_text(attributes, _ARGUMENTS) if is_tool else None,
        result=_text(attributes, _RESULT) if is_tool else None,
        user_id=_text(attributes, _USER_ID),
        session_id=_text(attributes, _SESSION_ID),
        conversation_id=_text(attributes, _CONVERSATION_ID),
        agent_name=_text(attributes, _AGENT_NAME),
        time_to_first_token_ms=_first_token(attributes, started_ns),
    )


def is_content(key: str) -> bool:
    """Whether an attribute holds what people, models or tools said, and not how a call went."""
    if key.startswith("llm.") and key.endswith(_RAW_CONTENT):
        return True
    while key:
        if key in _CONTENT:
            return True
        key = key.rpartition(".")[0]
    return False


def _kind(attributes: Mapping[str, object]) -> Kind | None:
    for key, kinds in _KINDS.items():
        said = attributes.get(key)
        if said is None:
            continue
        return kinds.get(said.lower()) if isinstance(said, str) else None
    return None


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
    if kind == "tool" and (said := _text(attributes, _TOOL_NAME)) is not None:
        return said
    return name.removeprefix("execute_tool ").removeprefix("retrieval ") or None


def _usage(kind: Kind, name: str, scope: str, attributes: Mapping[str, object]) -> Usage:
    if kind not in {"llm", "embeddings"}:
        return Usage()
    raw = {field: _first(attributes, keys) for field, keys in _USAGE.items()}
    raw |= _langsmith_details(attributes, raw) | _langfuse_usage(attributes)
    if kind == "embeddings" and raw["total_tokens"] is None and raw["output_tokens"] is None:
        # Embeddings have no output, so the input is the whole.
        raw["total_tokens"] = raw["input_tokens"]
    borrowed = (
        scope != _LITELLM_SCOPE
        and name != _LITELLM_NAME
        and any(key in attributes for key in _LITELLM_MARKS)
    )
    return Usage.of(**raw, flags=(BORROWED,) if borrowed else ())


def _first(attributes: Mapping[str, object], keys: tuple[str, ...]) -> object:
    return next((found for key in keys if (found := attributes.get(key)) is not None), None)


def _langsmith_details(
    attributes: Mapping[str, object], known: Mapping[str, object]
) -> dict[str, object]:
    """Read the details that LangSmith writes as a Python dict's text."""
    given = _details(attributes.get(_LANGSMITH_INPUT_DETAILS))
    produced = _details(attributes.get(_LANGSMITH_OUTPUT_DETAILS))
    found = {
        "cache_read_tokens": given.get("cache_read"),
        "cache_write_tokens": given.get("cache_creation"),
        "reasoning_tokens": produced.get("reasoning"),
    }
    return {field: value for field, value in found.items() if known[field] is None}


def _langfuse_usage(attributes: Mapping[str, object]) -> dict[str, object]:
    """Read Langfuse's details, whose parts of input and output exclude one another."""
    details = _details(attributes.get(_LANGFUSE_USAGE))
    costs = _details(attributes.get(_LANGFUSE_COST))
    # OpenAI's own names are passed on untouched.
    found: dict[str, object] = {
        "input_tokens": details.get("prompt_tokens", _sum(details, "input")),
        "output_tokens": details.get("completion_tokens", _sum(details, "output")),
        "total_tokens": details.get("total", details.get("total_tokens")),
        "cache_read_tokens": _first(details, ("input_cache_read", "input_cached_tokens")),
        "cache_write_tokens": _first(details, ("input_cache_creation", "input_cache_write")),
        "reasoning_tokens": _first(details, ("output_reasoning", "output_reasoning_tokens")),
        "cost_usd": costs.get("total", _sum(costs, "")),
    }
    return {field: value for field, value in found.items() if value is not None}


def _sum(details: Mapping[str, object], prefix: str) -> object:
    """Add up the numbers named so; the first that is none is returned, to be refused."""
    total: int | float | None = None
    for key, value in details.items():
        if not key.startswith(prefix):
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
            return value
        total = value if total is None else total + value
    return total


def _details(value: object) -> dict[str, object]:
    """Read an object from its text; of anything else, nothing."""
    if not isinstance(value, str) or len(value) > _LONGEST_DETAILS:
        return {}
    try:
        read: object = json.loads(value.replace("'", '"'))
    except (ValueError, RecursionError):
        return {}
    return cast("dict[str, object]", read) if isinstance(read, dict) else {}


def _first_token(attributes: Mapping[str, object], started_ns: int | None) -> float | None:
    seconds = attributes.get(_TIME_TO_FIRST_CHUNK)
    if isinstance(seconds, int | float) and not isinstance(seconds, bool) and 0 <= seconds < 10**9:
        return seconds * 1_000.0
    moment = attributes.get(_LANGFUSE_FIRST_TOKEN)
    if not isinstance(moment, str) or started_ns is None:
        return None
    try:
        at = datetime.fromisoformat(moment.strip('"')).timestamp()
    except (ValueError, OverflowError, OSError):
        return None
    waited_ms = at * 1_000.0 - started_ns / 1_000_000
    return waited_ms if waited_ms >= 0 else None
