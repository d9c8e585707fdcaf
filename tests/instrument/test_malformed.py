"""Nothing malformed reaches the user's run, and nothing malformed is lost without a count."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from graphs import FakeLLM, State, calling, chain
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage
from langgraph.graph import START, StateGraph

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Flow

QUICK = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


class Odd:
    """An object whose every text fails."""

    def __repr__(self) -> str:
        msg = "no text of me"
        raise ValueError(msg)

    __str__ = __repr__

    def model_dump(self) -> Any:
        msg = "no data of me"
        raise ValueError(msg)


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters())
    | st.binary(max_size=20)
    | st.just("lone \ud800 surrogate")
    | st.just("a NUL \0 inside")
    | st.builds(Odd)
    | st.just(10**400),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text() | st.integers() | st.none() | st.floats(), inner, max_size=4)
        | st.tuples(inner)
        | st.frozensets(st.integers(), max_size=3)
    ),
    max_leaves=8,
)
NAMES = [
    "spanflow_goals",
    "spanflow_global_steps",
    "spanflow_step_tools",
    "spanflow_engagement_id",
    "spanflow_engagement_name",
    "user_id",
    "session_id",
    "anything",
    "lc_agent_name",
]


@QUICK
@given(metadata=st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=8), anything, max_size=6))
def test_any_metadata(flow: Flow, metadata: dict[str, Any]) -> None:
    metadata.pop("spanflow_enabled", None)
    result = chain("a").invoke({"log": []}, {"metadata": metadata})
    assert result == {"log": ["a"]}
    from spanflow.ledger.journal import journal_for

    assert journal_for(flow.ledger).lost == 0


def test_any_metadata_can_be_listed(flow: Flow) -> None:
    odd: list[Any] = [
        Odd(),
        b"\xff",
        float("nan"),
        {1: {None: Odd()}},
        "\ud800",
        "\0",
        10**400,
        {1, 2},
    ]
    for value in odd:
        chain("a").invoke({"log": []}, {"metadata": {"key": value, "user_id": value}})
    rows = flow.sql("SELECT status, metadata FROM engagements")
    assert [status for status, _ in rows] == ["completed"] * len(odd)
    assert all("key" in json.loads(metadata) for _, metadata in rows)


@QUICK
@given(value=anything)
def test_any_state(flow: Flow, value: Any) -> None:
    result = chain("a").invoke({"log": [value]})
    assert result["log"][-1] == "a"


@QUICK
@given(
    told=st.dictionaries(
        st.sampled_from(
            [
                "input_tokens",
                "output_tokens",
                "total_tokens",
                "input_token_details",
                "output_token_details",
            ]
        ),
        anything,
    )
    | anything,
    response=st.dictionaries(st.sampled_from(["model_name", "id", "finish_reason"]), anything),
)
def test_any_usage(flow: Flow, told: Any, response: Any) -> None:
    reply = AIMessage("hi").model_copy(
        update={"usage_metadata": told, "response_metadata": response}
    )
    assert chain("a", a=calling(FakeLLM(replies=[reply]))).invoke({"log": []})["log"] == ["called"]


@pytest.mark.parametrize("name", ["検索🔍", "two words", "x" * 2_000, "quote\"'", "[red]"])
def test_any_name(flow: Flow, name: str) -> None:
    builder = StateGraph(State)
    builder.add_node(name, lambda state: {"log": []})
    builder.add_edge(START, name)
    builder.compile(name="エンゲージ🎌").invoke({"log": []}, {"metadata": {"text": "a\0b"}})
    assert flow.sql("SELECT name FROM steps") == [(name[:512],)]
    assert flow.one("SELECT name FROM engagements") == "エンゲージ🎌"
    assert json.loads(flow.one("SELECT metadata FROM engagements")) == {"text": "a\0b"}


def test_an_error_without_a_text(flow: Flow) -> None:
    class Mute(Exception):  # noqa: N818 - it is not one of ours
        def __str__(self) -> str:
            msg = "no"
            raise RuntimeError(msg)

    def node(state: State) -> State:
        raise Mute

    with pytest.raises(Mute):
        chain("a", a=node).invoke({"log": []})
    assert flow.sql("SELECT status, error_type FROM steps") == [("failed", "Mute")]


def test_callbacks_of_the_user_are_kept(flow: Flow) -> None:
    from langchain_core.callbacks import BaseCallbackHandler, CallbackManager

    class Theirs(BaseCallbackHandler):
        def __init__(self) -> None:
            self.seen: list[Any] = []

        def on_chain_start(self, serialized: Any, inputs: Any, **kwargs: Any) -> None:
            self.seen.append(kwargs.get("name"))

    for give in (
        lambda handler: [handler],
        lambda handler: CallbackManager([handler], inheritable_handlers=[handler]),
    ):
        theirs = Theirs()
        callbacks = give(theirs)
        chain("a").invoke({"log": []}, {"callbacks": callbacks})
        assert "a" in theirs.seen
        handlers = callbacks if isinstance(callbacks, list) else callbacks.handlers
        assert handlers == [theirs]


def test_our_own_errors_are_swallowed_and_counted(
    flow: Flow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever breaks inside us, at every boundary, the run is the user's own."""
    from spanflow import guard
    from spanflow.capture import call, call_spans, step, turn
    from spanflow.instrument import opening

    def breaks(*args: Any, **kwargs: Any) -> Any:
        msg = "ours"
        raise RuntimeError(msg)

    from graphs import llm

    guard.set_strict(False)
    for owner, name in (
        (opening, "prepare"),
        (opening.Opening, "open"),
        (step.Step, "end"),
        (step.Step, "__init__"),
        (turn.Turn, "close"),
        (call.OpenCall, "end"),
        (call_spans.CallSpans, "inference"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, breaks)
            guard.reset()
            result = chain("a", a=calling(llm(1, 1))).invoke({"log": []})
        assert result == {"log": ["called"]}, name
        assert sum(guard.counts().values()) >= 1, name


def test_a_ledger_that_cannot_be_written(
    flow_with: Callable[..., Flow], caplog: pytest.LogCaptureFixture, tmp_path: Any
) -> None:
    (tmp_path / "file").write_text("")
    flow = flow_with(ledger=tmp_path / "file" / "traces.duckdb")
    app = chain("a")
    for _ in range(5):
        assert app.invoke({"log": []}) == {"log": ["a"]}
    assert len([r for r in caplog.records if r.name == "spanflow"]) == 1
    from spanflow.ledger.journal import journal_for

    assert journal_for(tmp_path / "file" / "traces.duckdb").lost >= 5
    assert len(flow.named("step a")) == 5
