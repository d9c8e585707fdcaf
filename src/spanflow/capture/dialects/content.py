"""Which attributes hold what people, models or tools said, in every dialect.

Whether it may be kept is for others to say.
"""

from __future__ import annotations

from typing import Final

from spanflow import semconv

__all__ = ["is_content"]

# What people, models and tools said: these, and all that begins with one of them and a dot.
_CONTENT: Final = frozenset(
    {
        semconv.GEN_AI_INPUT_MESSAGES,
        semconv.GEN_AI_OUTPUT_MESSAGES,
        semconv.GEN_AI_SYSTEM_INSTRUCTIONS,
        semconv.GEN_AI_TOOL_ARGUMENTS,
        semconv.GEN_AI_TOOL_RESULT,
        "all_messages_events",
        "crew_agents",
        "crew_inputs",
        "crew_tasks",
        "events",
        "final_result",
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
        "model_request_parameters",
        "mcp.response.value",
        "output.documents",
        "output.images",
        "output.value",
        "pydantic_ai.all_messages",
        "reranker.input_documents",
        "reranker.output_documents",
        "reranker.query",
        "retrieval.documents",
        "tool.parameters",
        "tool_arguments",
        "tool_response",
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


def is_content(key: str) -> bool:
    """Whether an attribute holds what people, models or tools said, and not how a call went."""
    if key.startswith("llm.") and key.endswith(_RAW_CONTENT):
        return True
    while key:
        if key in _CONTENT:
            return True
        key = key.rpartition(".")[0]
    return False
