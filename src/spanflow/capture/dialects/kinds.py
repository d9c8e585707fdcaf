"""Which spans stand for a call, and for which kind of one, in every dialect.

An agent's, a workflow's or a chain's span stands for none: it repeats what its calls spent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from spanflow import semconv

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["KINDS", "Kind", "kind_of", "operation_of"]

Kind = Literal["llm", "embeddings", "tool", "retrieval"]

# The foreign keys that say what a span is, in the order they are asked. The first that is there
# decides, also that a span is no call: LangSmith writes the conventions' operation "chat" on its
# prompt templates and "embeddings" on its retrievers.
_LANGSMITH_KIND: Final = "langsmith.span.kind"
_LANGFUSE_TYPE: Final = "langfuse.observation.type"
_TRACELOOP_KIND: Final = "traceloop.span.kind"
_REQUEST_TYPE: Final = "llm.request.type"

KINDS: Final[dict[str, dict[str, Kind]]] = {
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
    semconv.OPENINFERENCE_KIND: {
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


def kind_of(attributes: Mapping[str, object]) -> Kind | None:
    """Return what a span's attributes say was called; None where it stands for no call."""
    for key, kinds in KINDS.items():
        said = attributes.get(key)
        if said is None:
            continue
        return kinds.get(said.lower()) if isinstance(said, str) else None
    return None


def operation_of(kind: Kind, attributes: Mapping[str, object]) -> str:
    """Return the conventions' name of what was done."""
    said = attributes.get(semconv.GEN_AI_OPERATION_NAME)
    named = _OPERATIONS.get(said) if kind == "llm" and isinstance(said, str) else None
    return named or _OPERATION_OF[kind]
