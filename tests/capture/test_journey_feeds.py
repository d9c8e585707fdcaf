"""What joins turns is the same whoever tells it: pauses, answers, causes, retries, forks, marks."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest
from feeds import captured, exported, filed, rows
from graphs import FakeLLM, State, llm
from langchain.agents import create_agent
from langchain_core.messages import AIMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.types import Command, RetryPolicy, interrupt

import spanflow

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Flow


@tool
def lookup(area: str) -> str:
    """Look an area up."""
    return f"3 rooms in {area}"


def run_journey() -> None:
    """Pauses, answers, a retry, a breakpoint, agents, a fork and a mark, on one thread."""
    tries = itertools.count()

    def flaky(state: State) -> State:
        llm(1, 1).invoke("x")
        lookup.invoke({"area": "Ueno"})
        if next(tries) < 1:
            raise OSError
        spanflow.gave_up("tired")
        spanflow.gave_up()
        return {"log": [interrupt({"awaiting": "a yes"}), interrupt(None)]}

    model = FakeLLM(replies=[AIMessage("hello")])
    builder = StateGraph(State)
    agent: Any = create_agent(model, [], name="alice")
    builder.add_node("agent", lambda state: {"log": [len(agent.invoke({"messages": []}))]})
    builder.add_node(
        "flaky", flaky, retry_policy=RetryPolicy(initial_interval=0.001, retry_on=OSError)
    )
    builder.add_node("ask", lambda state: {"log": [interrupt("beside")]})
    builder.add_node("join", lambda state: {"log": ["join"]})
    builder.add_edge(START, "agent")
    builder.add_edge("agent", "flaky")
    builder.add_edge("agent", "ask")
    builder.add_edge(["flaky", "ask"], "join")
    app = builder.compile(checkpointer=InMemorySaver(), interrupt_after=["agent"])
    config: Any = {"configurable": {"thread_id": "t"}}
    app.invoke({"log": []}, config)
    asked = app.invoke(None, config)["__interrupt__"]
    answers = Command(resume={question.id: "yes" for question in asked})
    app.invoke(answers, {**config, "metadata": {"spanflow_resolution": "by phone"}})
    app.invoke(Command(resume="no"), config)
    older = list(app.get_state_history(config))[-2]
    app.invoke(None, older.config)


@pytest.mark.parametrize("content", ["NO_CONTENT", "SPAN_ONLY"])
def test_a_journey_is_told_by_all(
    flow: Flow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    monkeypatch.setenv("OTEL_SEMCONV_STABILITY_OPT_IN", "gen_ai_latest_experimental")
    monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", content)
    run_journey()
    told = [captured(flow)]
    told.append(exported(tmp_path / "export.duckdb", [flow.spans]))
    told.append(filed(tmp_path / "file.duckdb", [flow.spans]))
    first, *others = (rows(tmp_path / "fresh", [feed]) for feed in told)
    assert len(first["turns"]) == 5
    assert all(
        any(value is not None for value in column)
        for column in zip(*first["records"], strict=False)
    )
    for other in others:
        for view, wanted in first.items():
            assert other[view] == wanted, view
