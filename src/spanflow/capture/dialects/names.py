"""Where each dialect says what: attributes that differ in their names alone.

The OpenTelemetry GenAI conventions with their older names, OpenInference and OpenLLMetry are told
by this table. What Langfuse, LangSmith and LiteLLM write inside other values is read in modules of
their own.
"""

from __future__ import annotations

from typing import Final

from spanflow import semconv

__all__ = [
    "AGENT_NAME",
    "ARGUMENTS",
    "CALL_ID",
    "CONVERSATION_ID",
    "PROVIDER",
    "REQUEST_MODEL",
    "RESPONSE_MODEL",
    "RESULT",
    "SESSION_ID",
    "TIME_TO_FIRST_CHUNK",
    "TOOL_NAME",
    "USAGE",
    "USER_ID",
]

# The conventions' present name first.
PROVIDER: Final = (
    # LangChain's own word, where the conventions' key says just "langchain".
    "langsmith.metadata.ls_provider",
    "traceloop.association.properties.ls_provider",
    semconv.GEN_AI_PROVIDER_NAME,
    semconv.GEN_AI_SYSTEM,
    "llm.provider",
    "llm.system",
)
RESPONSE_MODEL: Final = (
    semconv.GEN_AI_RESPONSE_MODEL,
    "llm.model_name",
    "embedding.model_name",
    "langfuse.observation.model.name",
)
REQUEST_MODEL: Final = (
    semconv.GEN_AI_REQUEST_MODEL,
    "langsmith.metadata.ls_model_name",
    "traceloop.association.properties.ls_model_name",
)
TOOL_NAME: Final = (semconv.GEN_AI_TOOL_NAME, "tool.name", "traceloop.entity.name")
CALL_ID: Final = (semconv.GEN_AI_TOOL_CALL_ID, "tool_call.id", "tool.id")
ARGUMENTS: Final = (
    semconv.GEN_AI_TOOL_ARGUMENTS,
    "traceloop.entity.input",
    "input.value",
    "langfuse.observation.input",
    "gen_ai.prompt",
)
RESULT: Final = (
    semconv.GEN_AI_TOOL_RESULT,
    "traceloop.entity.output",
    "output.value",
    "langfuse.observation.output",
    "gen_ai.completion",
)
USER_ID: Final = (
    semconv.USER_ID,
    "traceloop.association.properties.user_id",
    "langsmith.metadata.user_id",
    "metadata.user_id",
)
SESSION_ID: Final = (
    semconv.SESSION_ID,
    "traceloop.association.properties.session_id",
    "langsmith.metadata.session_id",
    "metadata.session_id",
)
CONVERSATION_ID: Final = (
    semconv.GEN_AI_CONVERSATION_ID,
    "traceloop.association.properties.thread_id",
    "langsmith.metadata.thread_id",
    "metadata.thread_id",
)
AGENT_NAME: Final = (semconv.GEN_AI_AGENT_NAME, "agent.name")
USAGE: Final = {
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

TIME_TO_FIRST_CHUNK: Final = "gen_ai.response.time_to_first_chunk"
