"""Models, tools, retrievers and embeddings called through LangChain, with all they say."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from graphs import FakeLLM, State, acalling, calling, chain, llm, usage
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.language_models import FakeListLLM
from langchain_core.messages import AIMessage
from langchain_core.retrievers import BaseRetriever
from langchain_core.tools import tool
from opentelemetry.trace import StatusCode

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Flow


def test_cached_and_reasoning_tokens(flow: Flow) -> None:
    model = llm(
        100,
        50,
        input_token_details={"cache_read": 60, "cache_creation": 10},
        output_token_details={"reasoning": 30},
    )
    chain("a", a=calling(model)).invoke({"log": []})
    assert flow.sql(
        """SELECT input_tokens, output_tokens, cache_read_tokens, cache_write_tokens,
                  reasoning_tokens, total_tokens
           FROM llm_calls"""
    ) == [(100, 50, 60, 10, 30, 150)]
    span = flow.named("chat fake-1")[0]
    assert span.attributes is not None
    assert span.attributes["gen_ai.usage.input_tokens"] == 100
    assert span.attributes["gen_ai.usage.reasoning.output_tokens"] == 30


def test_no_usage_is_unknown_and_never_zero(flow: Flow) -> None:
    model = FakeLLM(replies=[AIMessage("hi")])
    chain("a", a=calling(model)).invoke({"log": []})
    assert flow.sql("SELECT total_tokens, calls_without_usage, llm_calls FROM engagements") == [
        (None, 1, 1)
    ]


def test_an_impossible_count_is_refused_and_counted(flow: Flow) -> None:
    from spanflow import guard

    reply = AIMessage("hi").model_copy(update={"usage_metadata": usage(-5, 7)})
    result = chain("a", a=calling(FakeLLM(replies=[reply]))).invoke({"log": []})
    assert result["log"] == ["called"]
    [(given, produced, flags)] = flow.sql(
        "SELECT input_tokens, output_tokens, usage_flags FROM records WHERE kind = 'llm'"
    )
    assert (given, produced) == (None, 7)
    assert "refused" in json.dumps(flags)
    assert guard.counts() == {"usage.refused": 1}
    assert flow.one("SELECT coalesce(total_tokens, 0) >= 0 FROM engagements")


def test_a_model_that_fails(flow: Flow) -> None:
    class Failing(FakeLLM):
        def _generate(self, *args: Any, **kwargs: Any) -> Any:
            msg = "overloaded"
            raise ConnectionError(msg)

    with pytest.raises(ConnectionError):
        chain("a", a=calling(Failing(replies=[AIMessage("x")]))).invoke({"log": []})
    assert flow.sql("SELECT status, total_tokens FROM llm_calls") == [("error", None)]
    span = flow.named("chat fake-1")[0]
    assert span.status.status_code is StatusCode.ERROR
    assert span.attributes is not None
    assert span.attributes["error.type"] == "ConnectionError"
    assert flow.sql("SELECT error_type FROM spans WHERE kind = 'llm'") == [("ConnectionError",)]


@tool
def breaks(word: str) -> str:
    """Break."""
    raise KeyError(word)


@tool
async def slow(word: str) -> str:
    """Wait."""
    await asyncio.sleep(0.01)
    return word


def test_a_tool_that_fails(flow: Flow) -> None:
    def node(state: State) -> State:
        with pytest.raises(KeyError):
            breaks.invoke({"word": "x"})
        return {"log": []}

    chain("a", a=node).invoke({"log": []})
    assert flow.sql("SELECT name, status, error_type, step_name, result FROM tool_calls") == [
        ("breaks", "error", "KeyError", "a", None)
    ]
    assert flow.steps() == [("a", "completed")]


async def test_tools_asynchronously(flow: Flow) -> None:
    async def node(state: State) -> State:
        await asyncio.gather(*(slow.ainvoke({"word": str(i)}) for i in range(5)))
        return {"log": []}

    await chain("a", a=node).ainvoke({"log": []})
    assert flow.sql("SELECT count(*), count(DISTINCT span_id), min(status) FROM tool_calls") == [
        (5, 5, "ok")
    ]
    assert flow.sql("SELECT tool_calls FROM engagements") == [(5,)]


def test_a_model_called_inside_a_tool_nests_in_it(flow: Flow) -> None:
    model = llm(3, 4)

    @tool
    def asks(word: str) -> str:
        """Ask."""
        return str(model.invoke(word).content)

    def node(state: State) -> State:
        asks.invoke({"word": "x"})
        return {"log": []}

    chain("a", a=node).invoke({"log": []})
    [[_, [[_, [inner]]]]] = flow.tree()
    assert inner == ["execute_tool asks", ["chat fake-1"]]
    assert flow.sql("SELECT step_name, total_tokens, counted FROM llm_calls") == [("a", 7, True)]


class Words(Embeddings):
    """Embeddings that call one of their methods from another."""

    model = "words-1"

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [[float(len(text))] for text in texts]

    def embed_query(self, text: str) -> list[float]:
        return self.embed_documents([text])[0]


class Shelf(BaseRetriever):
    """A retriever that embeds its query."""

    def _get_relevant_documents(self, query: str, *, run_manager: Any) -> list[Document]:
        Words().embed_query(query)
        return [Document(page_content=f"about {query}")]


@pytest.mark.parametrize("mode", ["NO_CONTENT", "SPAN_ONLY"])
async def test_retrievers_and_embeddings(
    flow_with: Callable[..., Flow], monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", mode)
    flow = flow_with()

    def node(state: State) -> State:
        Shelf().invoke("cats")
        return {"log": []}

    async def anode(state: State) -> State:
        await Shelf().ainvoke("dogs")
        await Words().aembed_documents(["one"])
        return {"log": []}

    await chain("a", "b", a=node, b=anode).ainvoke({"log": []})
    kinds = flow.sql(
        "SELECT kind, count(*) FROM spans WHERE kind IN ('retrieval','embeddings') "
        "GROUP BY kind ORDER BY kind"
    )
    assert kinds == [("embeddings", 3), ("retrieval", 2)]
    assert flow.sql("SELECT DISTINCT operation, provider FROM llm_calls")[0][0] == "embeddings"
    assert {s.name for s in flow.spans if s.name.startswith("retrieval")} == {"retrieval Shelf"}
    text = json.dumps(flow.sql("SELECT * FROM records"), default=str)
    assert ("cats" in text) is (mode != "NO_CONTENT")


def test_completion_models(flow: Flow) -> None:
    model = FakeListLLM(responses=["x"])
    chain("a", a=calling(model)).invoke({"log": []})
    assert flow.sql("SELECT operation FROM llm_calls") == [("text_completion",)]


def test_batches_are_calls_of_their_own(flow: Flow) -> None:
    model = llm(1, 1)

    def node(state: State) -> State:
        model.batch(["a", "b", "c"])
        return {"log": []}

    chain("a", a=node).invoke({"log": []})
    assert flow.sql("SELECT total_tokens, llm_calls FROM engagements") == [(6, 3)]


def test_chains_inside_a_node(flow: Flow) -> None:
    from langchain_core.prompts import ChatPromptTemplate

    pipeline = ChatPromptTemplate.from_template("say {word}") | llm(2, 3)

    def node(state: State) -> State:
        pipeline.invoke({"word": "hi"})
        pipeline.invoke({"word": "hi"}, {"callbacks": []})
        return {"log": []}

    chain("a", a=node).invoke({"log": []})
    assert flow.sql("SELECT step_name, total_tokens FROM llm_calls") == [("a", 5), ("a", 5)]
    assert flow.steps() == [("a", "completed")]


def test_large_payloads_are_cut_and_their_size_kept(
    flow_with: Callable[..., Flow], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "SPAN_ONLY")
    flow = flow_with(payload_bytes=1_000)

    @tool
    def big(word: str) -> str:
        """Answer at length."""
        return "x" * 20_000_000

    def node(state: State) -> State:
        assert len(big.invoke({"word": "y"})) == 20_000_000
        return {"log": []}

    chain("a", a=node).invoke({"log": []})
    [(result, attributes)] = flow.sql(
        "SELECT t.result, s.attributes FROM tool_calls t JOIN spans s USING (span_id)"
    )
    assert len(result) == 1_000
    assert json.loads(attributes) == {
        "spanflow.payload.truncated": True,
        "spanflow.payload.original_size": 20_000_000,
    }
    span = flow.named("execute_tool big")[0]
    assert span.attributes is not None
    assert len(str(span.attributes["gen_ai.tool.call.result"])) == 1_000


def test_spans_and_rows_say_the_same(flow: Flow) -> None:
    async def run() -> None:
        await chain("a", "b", a=acalling(llm(5, 6)), b=acalling(llm(7, 8))).ainvoke({"log": []})

    asyncio.run(run())
    rows = {
        span_id: (trace_id, parent, tokens)
        for span_id, trace_id, parent, tokens in flow.sql(
            """WITH told AS (FROM (SELECT span_id, total_tokens FROM turns) UNION ALL
                 (SELECT span_id, total_tokens FROM steps) UNION ALL
                 (SELECT span_id, total_tokens FROM llm_calls))
               SELECT span_id, trace_id, parent_span_id, told.total_tokens
               FROM spans JOIN told USING (span_id)"""
        )
    }
    for span in flow.spans:
        assert span.context is not None
        trace_id, parent, tokens = rows.pop(f"{span.context.span_id:016x}")
        assert trace_id == f"{span.context.trace_id:032x}"
        assert parent == (f"{span.parent.span_id:016x}" if span.parent else None)
        attributes = dict(span.attributes or {})
        told = attributes.get("spanflow.usage.total_tokens")
        if told is None:
            told = int(attributes["gen_ai.usage.input_tokens"]) + int(  # type: ignore[arg-type]
                attributes["gen_ai.usage.output_tokens"]  # type: ignore[arg-type]
            )
        assert told == tokens
    assert rows == {}
