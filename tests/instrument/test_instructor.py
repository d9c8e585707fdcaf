"""What providers' answers say they spent and hold, read from their own types."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.responses import ResponseUsage

from spanflow.instrument.instructor import said_in
from spanflow.instrument.plain.replies import Replies
from spanflow.spending import Usage


def usage_of(answer: Any) -> dict[str, Any]:
    """What is read of an answer's usage."""
    told = Replies()
    told.read(answer)
    return told.usage


def answered(usage: Any) -> Any:
    return SimpleNamespace(usage=usage)


def test_openais_responses_say_it_in_other_words() -> None:
    told = ResponseUsage.model_validate(
        {
            "input_tokens": 64,
            "input_tokens_details": {"cached_tokens": 16, "cache_write_tokens": 0},
            "output_tokens": 20,
            "output_tokens_details": {"reasoning_tokens": 5},
            "total_tokens": 84,
        }
    )
    assert Usage.of(**usage_of(answered(told))) == Usage(
        input_tokens=64,
        output_tokens=20,
        cache_read_tokens=16,
        cache_write_tokens=0,
        reasoning_tokens=5,
        total_tokens=84,
    )


def test_anthropic_leaves_cached_tokens_out_of_its_input() -> None:
    told = {
        "input_tokens": 8,
        "cache_read_input_tokens": 50,
        "cache_creation_input_tokens": 6,
        "output_tokens": 20,
    }
    assert Usage.of(**usage_of({"usage": told})) == Usage(
        input_tokens=64,
        output_tokens=20,
        cache_read_tokens=50,
        cache_write_tokens=6,
        total_tokens=84,
    )


def test_gemini_leaves_thoughts_out_of_its_output() -> None:
    told = SimpleNamespace(
        prompt_token_count=64,
        candidates_token_count=15,
        thoughts_token_count=5,
        cached_content_token_count=None,
        total_token_count=84,
    )
    assert Usage.of(**usage_of(SimpleNamespace(usage_metadata=told))) == Usage(
        input_tokens=64, output_tokens=20, reasoning_tokens=5, total_tokens=84
    )


@pytest.mark.parametrize(
    "answer",
    [
        None,
        "text",
        {},
        answered(None),
        answered({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}),
    ],
)
def test_what_nobody_says_is_unknown(answer) -> None:
    assert not Usage.of(**usage_of(answer)).known


def test_an_input_that_is_all_from_the_cache_is_known() -> None:
    told = {"input_tokens": 0, "cache_read_input_tokens": 64, "output_tokens": 0}
    assert Usage.of(**usage_of({"usage": told})).input_tokens == 64


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "usage",
                    "usage_metadata",
                    "prompt_tokens",
                    "input_tokens",
                    "output_tokens",
                    "cache_read_input_tokens",
                    "candidates_token_count",
                    "thoughts_token_count",
                    "choices",
                    "message",
                    "tool_calls",
                    "function",
                    "content",
                ]
            ),
            inner,
        )
    ),
    max_leaves=20,
)


@given(ANY)
def test_whatever_an_answer_is_reading_it_never_fails(answer) -> None:
    usage = Usage.of(**usage_of(answer))
    assert usage.input_tokens is None or usage.input_tokens >= 0
    said_in(answer)
    said_in({"content": answer, "choices": answer})


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"choices": [{"message": {"content": "no"}}]}, "no"),
        (
            {"choices": [{"message": {"tool_calls": [{"function": {"arguments": "{}"}}]}}]},
            "{}",
        ),
        ({"content": [{"type": "thinking"}, {"type": "tool_use", "input": {"a": 1}}]}, {"a": 1}),
        ({"content": [{"type": "text", "text": "no"}]}, "no"),
        ({"output": []}, None),
    ],
)
def test_what_an_answer_holds(answer, said) -> None:
    assert said_in(answer) == said
