"""What each call of a decorated function becomes, and what is kept of it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

import spanflow

if TYPE_CHECKING:
    from conftest import Flow

CONTENT = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
EVERY = (
    spanflow.agent,
    spanflow.step,
    spanflow.tool,
    spanflow.llm(model="m"),
    spanflow.retrieval,
    spanflow.trace,
)


def plain(first: int) -> int:
    return first


# -- what they become ------------------------------------------------------------------------------


async def test_steps_calls_agents_and_spans(flow: Flow) -> None:
    @spanflow.retrieval("handbook")
    async def search(query: str) -> list[str]:
        return [query]

    @spanflow.tool
    async def look_up(area: str) -> list[str]:
        return await search(area)

    @spanflow.llm(model="gpt-5-mini", provider="openai")
    def ask(question: str) -> Any:
        return {"usage": {"prompt_tokens": 12, "completion_tokens": 3}}

    @spanflow.trace
    def parse(text: str) -> str:
        ask(text)
        return text

    @spanflow.step
    async def qualify() -> None:
        await look_up("Shibuya")
        parse("x")

    @spanflow.step("answer", tools=["t"], is_global=True)
    def answers() -> None:
        ask("?")

    @spanflow.agent("seller", role="sales")
    async def run() -> None:
        await qualify()
        answers()

    with spanflow.engagement("trip"):
        await run()
    assert flow.tree() == [
        [
            "invoke_workflow trip",
            [
                [
                    "invoke_agent seller",
                    [
                        [
                            "step qualify",
                            [
                                ["execute_tool look_up", ["retrieval handbook"]],
                                ["parse", ["chat gpt-5-mini"]],
                            ],
                        ],
                        ["step answer", ["chat gpt-5-mini"]],
                    ],
                ]
            ],
        ]
    ]
    assert flow.sql(
        "SELECT path, agent_name, is_global, total_tokens FROM steps ORDER BY started_at"
    ) == [("qualify", "seller", False, 15), ("answer", "seller", True, 15)]
    assert (
        flow.sql("SELECT provider, model, input_tokens, counted FROM llm_calls")
        == [("openai", "gpt-5-mini", 12, True)] * 2
    )


def test_each_alone_stands_for_itself(flow: Flow) -> None:
    spanflow.step(plain)(1)
    spanflow.agent("a")(plain)(1)
    spanflow.tool(plain)(1)
    spanflow.trace(plain)(1)
    assert flow.sql("SELECT name, status FROM engagements ORDER BY started_at") == [
        ("plain", "completed"),
        ("a", "completed"),
    ]
    assert len(flow.named("execute_tool plain")) == len(flow.named("plain")) == 1


def test_a_failure_is_told(flow: Flow) -> None:
    @spanflow.tool
    def boom() -> None:
        msg = "no line"
        raise ConnectionError(msg)

    with pytest.raises(ConnectionError):
        spanflow.step("dial")(boom)()
    assert flow.sql("SELECT path, status, error_type FROM steps") == [
        ("dial", "failed", "ConnectionError")
    ]
    assert flow.sql("SELECT name, status, error_type FROM tool_calls") == [
        ("boom", "error", "ConnectionError")
    ]


# -- what is kept ----------------------------------------------------------------------------------


@pytest.mark.parametrize("asked", [True, False])
async def test_arguments_and_results_are_kept_where_asked(
    flow: Flow, monkeypatch: pytest.MonkeyPatch, asked: bool
) -> None:
    if asked:
        monkeypatch.setenv(CONTENT, "SPAN_ONLY")

    class Desk:
        @spanflow.tool
        def look_up(self, area: str, *more: int, limit: int = 3, **others: Any) -> Any:
            return {"hits": [area]}

        @spanflow.tool
        @classmethod
        def of_class(cls, area: str) -> str:
            return area.upper()

    @spanflow.tool
    async def later(area: str, /) -> str:
        return area.upper()

    @spanflow.retrieval
    def by_name(index: str, query: str) -> list[str]:
        return [query]

    @spanflow.retrieval
    def by_place(looked_for: str) -> list[str]:
        return [looked_for]

    with spanflow.engagement("e"), spanflow.step("s"):
        Desk().look_up("A", 1, 2, x="y")
        Desk.of_class("b")
        await later("c")
        spanflow.tool(max)(1, 2)
        by_name("i", "q1")
        by_place("q2")
    kept = flow.sql("SELECT arguments, result FROM tool_calls ORDER BY started_at")
    retrieved = flow.sql(
        "SELECT arguments, result FROM records WHERE kind = 'retrieval' ORDER BY started_ns"
    )
    if not asked:
        assert {*kept, *retrieved} == {(None, None)}
        assert "hits" not in str([span.attributes for span in flow.spans])
        return
    assert [(json.loads(a), r) for a, r in kept[:3]] == [
        ({"area": "A", "more": [1, 2], "others": {"x": "y"}}, '{"hits":["A"]}'),
        ({"area": "b"}, "B"),
        ({"area": "c"}, "C"),
    ]
    assert kept[3][1] == "2"
    assert retrieved == [("q1", '["q1"]'), ("q2", '["q2"]')]


def test_a_query_that_is_left_to_its_default_is_kept(
    flow: Flow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CONTENT, "SPAN_ONLY")

    @spanflow.retrieval
    def first(looked_for: str = "q1", limit: int = 3) -> None: ...

    @spanflow.retrieval
    def named(limit: int = 3, *, query: str = "q3") -> None: ...

    @spanflow.retrieval
    def passed_on(limit: int = 3, **others: str) -> None: ...

    @spanflow.retrieval
    def nothing() -> None: ...

    @spanflow.tool
    def tool(query: str = "q", limit: int = 3) -> None: ...

    with spanflow.engagement("e"), spanflow.step("s"):
        first()
        first(limit=2)
        named(5)
        passed_on(query="q4")
        nothing()
        tool(limit=2)
    kept = flow.sql("SELECT arguments FROM records WHERE kind = 'retrieval' ORDER BY started_ns")
    assert kept == [("q1",), ("q1",), ("q3",), ("q4",), (None,)]
    assert flow.sql("SELECT arguments FROM tool_calls") == [('{"limit":2}',)]


def test_a_result_that_cannot_be_read_is_the_callers_all_the_same(
    flow: Flow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CONTENT, "SPAN_ONLY")

    class Hostile:
        def __getattr__(self, name: str) -> Any:
            raise RuntimeError(name)

        def __repr__(self) -> str:
            msg = "no"
            raise RuntimeError(msg)

    given = Hostile()
    for decorate in EVERY:
        assert decorate(lambda x: x)(given) is given
