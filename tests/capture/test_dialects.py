"""Anybody's span, read as the call it stands for, whatever its dialect."""

from __future__ import annotations

import json

import pytest

from spanflow.capture import dialects
from spanflow.capture.dialects import is_content, read_span
from spanflow.spending import Usage


def read(attributes, name="a span", scope="anybody", **known):
    return read_span(name, "INTERNAL", scope, attributes, **known)


def said(reading):
    """What a reading says, without what it does not."""
    return {
        field: value
        for field in dialects.Reading.__slots__
        if field != "usage" and (value := getattr(reading, field)) is not None
    }


FULL = Usage.of(
    input_tokens=100,
    output_tokens=20,
    cache_read_tokens=30,
    cache_write_tokens=10,
    reasoning_tokens=5,
)


# --- one call in every dialect


def test_genai_conventions():
    reading = read(
        {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "openai",
            "gen_ai.request.model": "gpt-4o",
            "gen_ai.response.model": "gpt-4o-2024-08-06",
            "gen_ai.response.id": "chatcmpl-1",
            "gen_ai.conversation.id": "thread",
            "gen_ai.agent.name": "booker",
            "gen_ai.response.time_to_first_chunk": 0.25,
            "gen_ai.usage.input_tokens": 100,
            "gen_ai.usage.output_tokens": 20,
            "gen_ai.usage.cache_read.input_tokens": 30,
            "gen_ai.usage.cache_write.input_tokens": 10,
            "gen_ai.usage.reasoning.output_tokens": 5,
            "user.id": "u1",
            "session.id": "s1",
        }
    )
    assert said(reading) == {
        "kind": "llm",
        "operation": "chat",
        "provider": "openai",
        "model": "gpt-4o-2024-08-06",
        "request_model": "gpt-4o",
        "response_id": "chatcmpl-1",
        "conversation_id": "thread",
        "agent_name": "booker",
        "user_id": "u1",
        "session_id": "s1",
        "time_to_first_token_ms": 250.0,
    }
    assert reading.usage == FULL


def test_genai_conventions_in_their_older_names():
    reading = read(
        {
            "gen_ai.operation.name": "chat",
            "gen_ai.system": "anthropic",
            "gen_ai.request.model": "claude",
            "gen_ai.usage.prompt_tokens": 100,
            "gen_ai.usage.completion_tokens": 20,
            "gen_ai.usage.cache_read.input_tokens": 30,
            "gen_ai.usage.cache_creation.input_tokens": 10,
            "gen_ai.usage.reasoning_tokens": 5,
        }
    )
    assert (reading.provider, reading.model, reading.usage) == ("anthropic", "claude", FULL)


def test_openinference():
    reading = read(
        {
            "openinference.span.kind": "LLM",
            "llm.model_name": "gpt-4o",
            "llm.provider": "openai",
            "llm.token_count.prompt": 100,
            "llm.token_count.completion": 20,
            "llm.token_count.total": 120,
            "llm.token_count.prompt_details.cache_read": 30,
            "llm.token_count.prompt_details.cache_write": 10,
            "llm.token_count.completion_details.reasoning": 5,
            "session.id": "s1",
            "user.id": "u1",
        }
    )
    assert said(reading) == {
        "kind": "llm",
        "operation": "chat",
        "provider": "openai",
        "model": "gpt-4o",
        "session_id": "s1",
        "user_id": "u1",
    }
    assert reading.usage == FULL


def test_openinference_knows_costs():
    attributes = {"openinference.span.kind": "LLM", "llm.cost.total": 0.5}
    assert read(attributes).usage.cost_usd == 0.5


def test_openllmetry():
    reading = read(
        {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "langchain",
            "gen_ai.request.model": "unknown",
            "traceloop.association.properties.ls_provider": "openai",
            "traceloop.association.properties.ls_model_name": "gpt-4o",
            "gen_ai.usage.input_tokens": 100,
            "gen_ai.usage.output_tokens": 20,
            "gen_ai.usage.total_tokens": 120,
            "gen_ai.usage.cache_read_input_tokens": 30,
            "gen_ai.usage.cache_creation_input_tokens": 10,
            "gen_ai.usage.reasoning_tokens": 5,
            "traceloop.association.properties.user_id": "u1",
            "traceloop.association.properties.session_id": "s1",
            "traceloop.association.properties.thread_id": "t1",
        }
    )
    assert (reading.provider, reading.model, reading.usage) == ("openai", "gpt-4o", FULL)
    assert (reading.user_id, reading.session_id, reading.conversation_id) == ("u1", "s1", "t1")


def test_openllmetry_before_operation_names():
    attributes = {"llm.request.type": "chat", "gen_ai.usage.prompt_tokens": 7}
    assert read(attributes).usage == Usage.of(input_tokens=7)


def test_langfuse():
    reading = read(
        {
            "langfuse.observation.type": "generation",
            "langfuse.observation.model.name": "gpt-4o",
            "langfuse.observation.usage_details": json.dumps(
                {
                    "input": 60,
                    "input_cache_read": 30,
                    "input_cache_creation": 10,
                    "output": 15,
                    "output_reasoning": 5,
                    "total": 120,
                }
            ),
            "langfuse.observation.cost_details": json.dumps({"input": 0.25, "output": 0.5}),
            "langfuse.observation.completion_start_time": '"2026-11-20T12:00:00.250000+00:00"',
        },
        started_ns=1_795_176_000_000_000_000,
    )
    assert said(reading) == {
        "kind": "llm",
        "operation": "chat",
        "model": "gpt-4o",
        "time_to_first_token_ms": 250.0,
    }
    usage = Usage.of(
        input_tokens=100,
        output_tokens=20,
        cache_read_tokens=30,
        cache_write_tokens=10,
        reasoning_tokens=5,
        cost_usd=0.75,
    )
    assert reading.usage == usage


def test_langfuse_passes_openai_names_on():
    details = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}
    reading = read(
        {
            "langfuse.observation.type": "generation",
            "langfuse.observation.usage_details": json.dumps(details),
        }
    )
    assert reading.usage == Usage.of(input_tokens=100, output_tokens=20)


def test_langsmith():
    reading = read(
        {
            "langsmith.span.kind": "llm",
            "gen_ai.operation.name": "chat",
            "gen_ai.system": "openai",
            "gen_ai.request.model": "gpt-4o",
            "gen_ai.usage.input_tokens": 100,
            "gen_ai.usage.output_tokens": 20,
            "gen_ai.usage.total_tokens": 120,
            "gen_ai.usage.input_token_details": str({"cache_read": 30, "cache_creation": 10}),
            "gen_ai.usage.output_token_details": str({"reasoning": 5}),
            "langsmith.metadata.user_id": "u1",
            "langsmith.metadata.session_id": "s1",
            "langsmith.metadata.thread_id": "t1",
        }
    )
    assert reading.usage == FULL
    assert (reading.user_id, reading.session_id, reading.conversation_id) == ("u1", "s1", "t1")


LITELLM = {
    "gen_ai.operation.name": "acompletion",
    "gen_ai.request.model": "gpt-4o",
    "gen_ai.usage.input_tokens": 100,
    "gen_ai.usage.output_tokens": 20,
    "gen_ai.usage.total_tokens": 120,
    "gen_ai.cost.total_cost": 0.125,
    "hidden_params": "{}",
    "metadata.user_id": "u1",
}


def test_litellm():
    reading = read(LITELLM, name="litellm_request", scope="litellm")
    assert said(reading) == {
        "kind": "llm",
        "operation": "chat",
        "model": "gpt-4o",
        "request_model": "gpt-4o",
        "user_id": "u1",
    }
    assert reading.usage == Usage.of(input_tokens=100, output_tokens=20, cost_usd=0.125)


def test_litellm_on_somebody_elses_span_is_borrowed():
    reading = read(LITELLM, name="GET /chat", scope="web")
    assert reading.usage.flags == ("borrowed",)


# --- other kinds


@pytest.mark.parametrize(
    ("attributes", "kind", "operation"),
    [
        ({"gen_ai.operation.name": "text_completion"}, "llm", "text_completion"),
        ({"gen_ai.operation.name": "generate_content"}, "llm", "generate_content"),
        ({"gen_ai.operation.name": "embeddings"}, "embeddings", "embeddings"),
        ({"gen_ai.operation.name": "execute_tool"}, "tool", "execute_tool"),
        ({"gen_ai.operation.name": "retrieval"}, "retrieval", "retrieval"),
        ({"openinference.span.kind": "EMBEDDING"}, "embeddings", "embeddings"),
        ({"openinference.span.kind": "RETRIEVER"}, "retrieval", "retrieval"),
        ({"traceloop.span.kind": "tool"}, "tool", "execute_tool"),
        ({"langfuse.observation.type": "embedding"}, "embeddings", "embeddings"),
        ({"langfuse.observation.type": "retriever"}, "retrieval", "retrieval"),
        # what LangSmith writes for a retriever
        (
            {"langsmith.span.kind": "retriever", "gen_ai.operation.name": "embeddings"},
            "retrieval",
            "retrieval",
        ),
    ],
)
def test_kinds(attributes, kind, operation):
    reading = read(attributes)
    assert (reading.kind, reading.operation) == (kind, operation)


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"http.request.method": "GET"},
        {"gen_ai.operation.name": "invoke_agent", "gen_ai.usage.input_tokens": 5},
        {"gen_ai.operation.name": "invoke_workflow"},
        {"gen_ai.operation.name": "create_agent"},
        {"openinference.span.kind": "AGENT", "llm.token_count.prompt": 5},
        {"openinference.span.kind": "CHAIN"},
        {"traceloop.span.kind": "workflow"},
        {"langfuse.observation.type": "agent"},
        {"langfuse.observation.type": "span", "gen_ai.operation.name": "chat"},
        {"langsmith.span.kind": "chain", "gen_ai.operation.name": "chain"},
        # what LangSmith writes for a prompt template
        {"langsmith.span.kind": "prompt", "gen_ai.operation.name": "chat"},
        {"gen_ai.operation.name": ("chat",)},
        {"gen_ai.operation.name": 3},
    ],
)
def test_what_is_no_call_is_not_read(attributes):
    assert read(attributes) is None


@pytest.mark.parametrize(
    ("name", "attributes"),
    [
        (
            "execute_tool lookup",
            {
                "gen_ai.operation.name": "execute_tool",
                "gen_ai.tool.call.id": "c1",
                "gen_ai.tool.call.arguments": "{}",
                "gen_ai.tool.call.result": "3",
            },
        ),
        (
            "whatever",
            {
                "openinference.span.kind": "TOOL",
                "tool.name": "lookup",
                "tool_call.id": "c1",
                "input.value": "{}",
                "output.value": "3",
            },
        ),
        (
            "lookup.tool",
            {
                "traceloop.span.kind": "tool",
                "traceloop.entity.name": "lookup",
                "gen_ai.tool.call.id": "c1",
                "traceloop.entity.input": "{}",
                "traceloop.entity.output": "3",
            },
        ),
        (
            "lookup",
            {
                "langfuse.observation.type": "tool",
                "gen_ai.tool.call.id": "c1",
                "langfuse.observation.input": "{}",
                "langfuse.observation.output": "3",
            },
        ),
        (
            "lookup",
            {
                "langsmith.span.kind": "tool",
                "gen_ai.tool.name": "lookup",
                "gen_ai.tool.call.id": "c1",
                "gen_ai.prompt": "{}",
                "gen_ai.completion": "3",
            },
        ),
    ],
)
def test_tools(name, attributes):
    assert said(read(attributes, name=name)) == {
        "kind": "tool",
        "operation": "execute_tool",
        "tool_name": "lookup",
        "call_id": "c1",
        "arguments": "{}",
        "result": "3",
    }


def test_embeddings_spend_their_input_only():
    attributes = {"gen_ai.operation.name": "embeddings", "gen_ai.usage.input_tokens": 9}
    assert read(attributes).usage == Usage.of(input_tokens=9, total_tokens=9)


def test_the_text_of_a_model_call_is_no_argument():
    attributes = {"openinference.span.kind": "LLM", "input.value": "secret", "output.value": "s"}
    reading = read(attributes)
    assert (reading.arguments, reading.result) == (None, None)


@pytest.mark.parametrize(
    "key",
    [
        "gen_ai.input.messages",
        "gen_ai.prompt.0.content",
        "gen_ai.tool.call.arguments",
        "input.value",
        "llm.input_messages.0.message.content",
        "llm.openai.stringified_raw_response",
        "traceloop.entity.input",
        "langfuse.observation.output",
        "retrieval.documents.0.document.content",
    ],
)
def test_what_was_said_is_known_as_content(key):
    assert is_content(key)


@pytest.mark.parametrize(
    "key",
    ["", ".", "gen_ai.request.model", "input.mime_type", "input", "llm.token_count.prompt", "url"],
)
def test_how_a_call_went_is_no_content(key):
    assert not is_content(key)
