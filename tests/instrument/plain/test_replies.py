"""Who answered and what it spent, read from what a decorated function returns or yields."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, AIMessageChunk
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response

import spanflow
from spanflow import guard
from spanflow.instrument.plain.replies import Replies

if TYPE_CHECKING:
    from conftest import Flow


def known(*pieces: Any) -> tuple[dict[str, Any], str | None, str | None]:
    """What is known after these pieces: numbers that are any, the model and the id."""
    replies = Replies()
    for piece in pieces:
        replies.read(piece)
    usage = {k: v for k, v in replies.usage.items() if v is not None}
    return usage, replies.model, replies.response_id


def objects(told: Any) -> Any:
    """The same as objects with attributes."""
    if isinstance(told, dict):
        return SimpleNamespace(**{k: objects(v) for k, v in told.items()})
    return [objects(each) for each in told] if isinstance(told, list) else told


CHAT = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "gpt-5-mini-2025",
    "choices": [],
    "usage": {
        "prompt_tokens": 100,
        "completion_tokens": 30,
        "total_tokens": 130,
        "prompt_tokens_details": {"cached_tokens": 64},
        "completion_tokens_details": {"reasoning_tokens": 10},
    },
}
OF_CHAT = (
    {
        "input_tokens": 100,
        "output_tokens": 30,
        "total_tokens": 130,
        "cache_read_tokens": 64,
        "reasoning_tokens": 10,
    },
    "gpt-5-mini-2025",
    "chatcmpl-1",
)
RESPONSE = {
    "id": "resp_1",
    "object": "response",
    "created_at": 1,
    "model": "gpt-5",
    "output": [],
    "parallel_tool_calls": True,
    "tool_choice": "auto",
    "tools": [],
    "usage": {
        "input_tokens": 100,
        "output_tokens": 30,
        "total_tokens": 130,
        "input_tokens_details": {"cached_tokens": 64, "cache_write_tokens": 0},
        "output_tokens_details": {"reasoning_tokens": 10},
    },
}
OF_RESPONSE = ({**OF_CHAT[0], "cache_write_tokens": 0}, "gpt-5", "resp_1")
MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-sonnet-5",
    "content": [],
    "usage": {
        "input_tokens": 10,
        "output_tokens": 30,
        "cache_read_input_tokens": 80,
        "cache_creation_input_tokens": 5,
    },
}
OF_MESSAGE = (
    {"input_tokens": 95, "output_tokens": 30, "cache_read_tokens": 80, "cache_write_tokens": 5},
    "claude-sonnet-5",
    "msg_1",
)
GEMINI = {
    "model_version": "gemini-3-flash",
    "response_id": "g1",
    "usage_metadata": {
        "prompt_token_count": 100,
        "tool_use_prompt_token_count": 7,
        "candidates_token_count": 20,
        "thoughts_token_count": 10,
        "cached_content_token_count": 64,
        "total_token_count": 137,
    },
}
OF_GEMINI = (
    {
        "input_tokens": 107,
        "output_tokens": 30,
        "total_tokens": 137,
        "cache_read_tokens": 64,
        "reasoning_tokens": 10,
    },
    "gemini-3-flash",
    "g1",
)
GEMINI_JSON = {
    "modelVersion": "gemini-3-flash",
    "responseId": "g1",
    "usageMetadata": {
        "promptTokenCount": 100,
        "toolUsePromptTokenCount": 7,
        "candidatesTokenCount": 20,
        "thoughtsTokenCount": 10,
        "cachedContentTokenCount": 64,
        "totalTokenCount": 137,
    },
}
LANGCHAIN_USAGE: Any = {
    "input_tokens": 100,
    "output_tokens": 30,
    "total_tokens": 130,
    "input_token_details": {"cache_read": 64, "cache_creation": 2},
    "output_token_details": {"reasoning": 10},
}
LANGCHAIN = AIMessage(
    "hi", usage_metadata=LANGCHAIN_USAGE, response_metadata={"model_name": "m-1", "id": "r1"}
)
OF_LANGCHAIN = ({**OF_CHAT[0], "cache_write_tokens": 2}, "m-1", "r1")


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (CHAT, OF_CHAT),
        (objects(CHAT), OF_CHAT),
        (ChatCompletion.model_validate(CHAT), OF_CHAT),
        (RESPONSE, OF_RESPONSE),
        (Response.model_validate(RESPONSE), OF_RESPONSE),
        (MESSAGE, OF_MESSAGE),
        (objects(MESSAGE), OF_MESSAGE),
        (GEMINI, OF_GEMINI),
        (objects(GEMINI), OF_GEMINI),
        (GEMINI_JSON, OF_GEMINI),
        (LANGCHAIN, OF_LANGCHAIN),
        (LANGCHAIN.model_dump(), OF_LANGCHAIN),
        # What a provider leaves out stays unknown.
        ({**CHAT, "usage": None}, ({}, "gpt-5-mini-2025", "chatcmpl-1")),
        ({"usage": {"prompt_tokens": 5}}, ({"input_tokens": 5}, None, None)),
        ({"usage": {"input_tokens": 5, "output_tokens": 2}},
         ({"input_tokens": 5, "output_tokens": 2}, None, None)),
        ({**MESSAGE, "usage": {"input_tokens": 5, "output_tokens": 2}},
         ({"input_tokens": 5, "output_tokens": 2}, "claude-sonnet-5", "msg_1")),
        ({"usage_metadata": {"prompt_token_count": 4}}, ({"input_tokens": 4}, None, None)),
        (AIMessage("no numbers"), ({}, None, None)),
    ],
)  # fmt: skip
def test_the_answers_of_every_provider_are_read(answer: Any, expected: Any) -> None:
    assert known(answer) == expected


def test_a_chat_in_pieces_tells_at_its_end() -> None:
    chunk = {**CHAT, "object": "chat.completion.chunk", "usage": None}
    pieces = [chunk, chunk, {**chunk, "usage": CHAT["usage"]}]
    assert known(*pieces) == OF_CHAT
    assert known(*map(ChatCompletionChunk.model_validate, pieces)) == OF_CHAT
    assert known(*pieces[:2]) == ({}, *OF_CHAT[1:])


def test_a_chat_whose_pieces_repeat_what_is_known_counts_once() -> None:
    growing = [
        {"usage": {"prompt_tokens": 9, "completion_tokens": n, "total_tokens": 9 + n}}
        for n in (1, 2, 3)
    ]
    expected = {"input_tokens": 9, "output_tokens": 3, "total_tokens": 12}
    assert known(*growing) == (expected, None, None)


def test_a_response_in_events_tells_in_the_last() -> None:
    begun = {"type": "response.created", "response": {**RESPONSE, "usage": None}}
    delta = {"type": "response.output_text.delta", "delta": "h"}
    done = {"type": "response.completed", "response": RESPONSE}
    assert known(begun, delta, done) == OF_RESPONSE
    assert known(begun, delta) == ({}, "gpt-5", "resp_1")


@pytest.mark.parametrize("as_objects", [True, False])
def test_a_message_in_events_adds_up_to_the_whole(as_objects: bool) -> None:
    begun = {
        "type": "message_start",
        "message": {**MESSAGE, "usage": {**MESSAGE["usage"], "output_tokens": 1}},
    }
    delta = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta"}}
    ended = {"type": "message_delta", "delta": {}, "usage": {"output_tokens": 30}}
    pieces = [begun, delta, ended, {"type": "message_stop"}]
    if as_objects:
        pieces = [objects(piece) for piece in pieces]
    assert known(*pieces) == OF_MESSAGE
    # Left before its end, nobody knows what was produced.
    assert "output_tokens" not in known(*pieces[:2])[0]
    assert known(*pieces[:2])[0]["input_tokens"] == 95


def test_pieces_of_langchain_tell_each_its_own_part() -> None:
    def piece(given: int, produced: int, **more: Any) -> AIMessageChunk:
        return AIMessageChunk(
            "x",
            usage_metadata={
                "input_tokens": given,
                "output_tokens": produced,
                "total_tokens": given + produced,
            },
            **more,
        )

    pieces = [piece(10, 0), AIMessageChunk("y"), piece(0, 4), piece(0, 3)]
    whole = pieces[0] + pieces[1] + pieces[2] + pieces[3]
    numbers = {"input_tokens": 10, "output_tokens": 7, "total_tokens": 17}
    assert known(*pieces)[0] == known(whole)[0] == numbers


@pytest.mark.parametrize(
    "other",
    [
        None,
        "a text",
        b"bytes",
        3,
        [CHAT],
        ("a", CHAT),
        {},
        {"model": "T", "id": "car-5"},
        SimpleNamespace(model="T", id="car-5", usage="heavy"),
        {"usage": {"prompt_tokens": True}},
        {"usage": {"prompt_tokens": "12"}},
        {"usage": [1, 2]},
        {"type": "message_start"},
        {"type": "response.created", "response": None},
        object(),
    ],
)
def test_of_anything_else_nothing_is_said(other: Any) -> None:
    assert known(other) == ({}, None, None)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: st.dictionaries(
            st.sampled_from(
                ["usage", "usage_metadata", "message", "response", "type", "object", "model", "id",
                 "prompt_tokens", "input_tokens", "output_tokens", "prompt_token_count",
                 "cache_read_input_tokens", "response_metadata", "input_token_details"]
            ),
            inner | st.sampled_from(["message_start", "message_delta", "response.completed"]),
            max_size=6,
        ),
        max_leaves=20,
    )
)  # fmt: skip
def test_nothing_that_is_read_raises(told: Any) -> None:
    known(told, objects(told))
    known(told, CHAT, told)


# -- on the call -----------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [CHAT, RESPONSE, MESSAGE, GEMINI, LANGCHAIN])
def test_what_was_read_stands_on_the_call(flow: Flow, answer: Any) -> None:
    expected, model, response_id = known(answer)
    with spanflow.engagement("e"), spanflow.step("s"):
        assert spanflow.llm(model="asked", provider="p")(lambda: answer)() is answer
    names = ["input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens"]
    assert flow.sql(
        f"SELECT {', '.join(names)}, request_model, model, response_id, status FROM llm_calls"
    ) == [(*map(expected.get, names), "asked", model, response_id, "ok")]
    [span] = flow.named("chat asked")
    told = span.attributes or {}
    assert told["gen_ai.usage.input_tokens"] == expected["input_tokens"]
    assert told["gen_ai.usage.cache_read.input_tokens"] == expected["cache_read_tokens"]
    assert told["gen_ai.response.model"] == model
    spent = expected["input_tokens"] + expected["output_tokens"]
    assert flow.one("SELECT total_tokens FROM engagements") == spent


def test_an_impossible_number_is_refused_and_counted(flow: Flow) -> None:
    wrong = {"usage": {"prompt_tokens": -5, "completion_tokens": 3}}
    with spanflow.step("s"):
        spanflow.llm(model="m")(lambda: wrong)()
    assert flow.sql("SELECT input_tokens, output_tokens FROM llm_calls") == [(None, 3)]
    assert guard.counts()["usage.refused"] == 1


async def test_an_unknown_answer_is_a_call_without_usage(flow: Flow) -> None:
    async def answer() -> str:
        return "Yes."

    with spanflow.step("s"):
        await spanflow.llm(model="m")(answer)()
    assert flow.sql("SELECT total_tokens, calls_without_usage, llm_calls FROM engagements") == [
        (None, 1, 1)
    ]


async def test_a_stream_tells_at_its_end_and_what_it_knew_when_left(flow: Flow) -> None:
    pieces = [{"usage": None}, {"usage": {"prompt_tokens": 9, "completion_tokens": 3}}, {}]

    @spanflow.llm(model="m")
    async def answer() -> Any:
        for piece in pieces:
            yield piece

    with spanflow.step("s"):
        assert [piece async for piece in answer()] == pieces
        left = answer()
        await anext(left)
        await left.aclose()
    assert flow.sql("SELECT status, total_tokens FROM llm_calls ORDER BY started_at") == [
        ("ok", 12),
        ("cancelled", None),
    ]
