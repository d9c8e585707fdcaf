"""Numbers that LangSmith and LiteLLM write inside other values."""

from __future__ import annotations

import json

import pytest

from spanflow.capture.dialects import read_span
from spanflow.spending import Usage


def usage_of(attributes):
    reading = read_span("litellm_request", "INTERNAL", "anybody", attributes)
    assert reading is not None
    return reading.usage


LANGCHAIN = {
    "input_tokens": 100,
    "output_tokens": 20,
    "total_tokens": 120,
    "input_token_details": {"cache_read": 30, "cache_creation": 10},
    "output_token_details": {"reasoning": 5},
}
OPENAI = {
    "prompt_tokens": 100,
    "completion_tokens": 20,
    "total_tokens": 120,
    "prompt_tokens_details": {"cached_tokens": 30, "audio_tokens": None},
    "completion_tokens_details": {"reasoning_tokens": 5, "text_tokens": None},
}


@pytest.mark.parametrize("written", [json.dumps, str])
def test_langsmith_tells_usage_in_a_runs_metadata(written):
    said = {"langsmith.span.kind": "llm", "langsmith.metadata.usage_metadata": written(LANGCHAIN)}
    assert usage_of(said) == Usage.of(
        input_tokens=100,
        output_tokens=20,
        cache_read_tokens=30,
        cache_write_tokens=10,
        reasoning_tokens=5,
    )


def test_what_a_span_says_itself_stands_above_its_metadata():
    said = {
        "langsmith.span.kind": "llm",
        "gen_ai.usage.input_tokens": 7,
        "langsmith.metadata.usage_metadata": json.dumps({"input_tokens": 9}),
    }
    assert usage_of(said).input_tokens == 7


@pytest.mark.parametrize("written", [json.dumps, str])
def test_litellm_tells_details_as_the_provider_did(written):
    said = {
        "gen_ai.operation.name": "completion",
        "gen_ai.usage.input_tokens": 100,
        "gen_ai.usage.output_tokens": 20,
        "metadata.usage_object": written(OPENAI),
    }
    assert usage_of(said) == Usage.of(
        input_tokens=100, output_tokens=20, cache_read_tokens=30, reasoning_tokens=5
    )
