"""Real graphs, exported and recorded: ClickHouse and the ledger answer every question alike."""

from __future__ import annotations

import operator
from datetime import timedelta
from typing import Annotated, Any, TypedDict

import pytest
from analytics.asking import moment
from graphs import calling, llm
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, RetryPolicy, Send, interrupt

import spanflow
from spanflow.query.clickhouse import open_engine
from spanflow.query.engine import DuckDBEngine


class State(TypedDict, total=False):
    log: Annotated[list[Any], operator.add]
    wish: str


def _agent(saver: Any) -> Any:
    """A fan-out with a Send, a loop, a subgraph, a step that is tried again, one that asks."""
    tried: set[str] = set()

    def flaky(state: State) -> State:
        llm(7, 3).invoke("hello")
        if state["wish"] not in tried:
            tried.add(state["wish"])
            raise ConnectionError
        return {"log": ["search"]}

    def ask(state: State) -> State:
        llm(11, 2).invoke("hello")
        return {"log": [interrupt({"awaiting": "approval"})]}

    def end(state: State) -> State:
        if state["wish"] == "fail":
            raise ValueError(state["wish"])
        if state["wish"] == "give up":
            spanflow.gave_up("too dear")
        return {"log": ["end"]}

    inner = StateGraph(State)
    inner.add_node("think", calling(llm(20, 10), 2))
    inner.add_node("ask", ask)
    inner.add_edge(START, "think")
    inner.add_edge("think", "ask")
    outer = StateGraph(State)
    outer.add_node("intake", calling(llm(5, 5)))
    outer.add_node("search", flaky, retry_policy=RetryPolicy(initial_interval=0.001, jitter=False))
    outer.add_node("quote", calling(llm(1, 1)))
    outer.add_node("compare", lambda _: {"log": ["compare"]})
    outer.add_node("review", inner.compile())
    outer.add_node("end", end)
    outer.add_edge(START, "intake")
    outer.add_conditional_edges(
        "intake", lambda s: ["intake"] if len(s["log"]) < 2 else ["search"], ["intake", "search"]
    )
    outer.add_conditional_edges("search", lambda s: [Send("quote", s), Send("quote", s)], ["quote"])
    outer.add_edge("quote", "compare")
    outer.add_conditional_edges(
        "compare", lambda s: "end" if s["wish"] == "no" else "review", ["end", "review"]
    )
    outer.add_edge("review", "end")
    outer.add_edge("end", END)
    return outer.compile(checkpointer=saver)


@pytest.fixture
def asked_both(flow_with, exported, differ):
    """Run users through the agent, and return both engines with what to ask them."""
    flow = flow_with(goals=["end"])
    agent = _agent(InMemorySaver())
    wishes = ["yes", "no", "fail", "give up", "wait", "twice", "検索's \"\\\n"]
    for number, wish in enumerate(wishes):
        config = {
            "configurable": {"thread_id": wish},
            "metadata": {
                "user_id": f"u{number % 3}",
                "spanflow_metadata": {"tier": "pro" if number % 2 else "free", "n": number},
            },
        }
        agent.invoke({"log": [], "wish": wish}, config)
        if wish in ("yes", "fail", "give up", "twice", wishes[-1]):
            try:
                agent.invoke(Command(resume="go"), config)
            except ValueError:
                assert wish == "fail"
        if wish == "twice":
            agent.invoke({"log": [], "wish": "no"}, config)
    # Stream left in the middle.
    left = agent.stream({"log": [], "wish": "left"}, {"configurable": {"thread_id": "left"}})
    next(left)
    left.close()
    flow.sql("SELECT 1")
    import duckdb

    with duckdb.connect(str(flow.ledger), read_only=True) as connection:
        other = open_engine(exported.make("graphs", flow.spans))
        yield DuckDBEngine(connection), other, connection
        other.close()


STEPS = ["intake", "search", "quote", "review/ask", "end"]
QUESTIONS = [
    ("funnel", {"steps": STEPS}),
    ("funnel", {"steps": ["intake", "search", "ask", "end"], "ordered": True}),
    ("funnel", {"steps": ["intake", "quote", "end"], "within": timedelta(milliseconds=40)}),
    ("funnel_engagements", {"steps": STEPS}),
    ("journeys", {}),
    ("journeys", {"reached": "review/think", "status": "completed"}),
    ("paths", {}),
    ("paths", {"nested": True, "depth": 3}),
    ("drop_offs", {}),
    ("step_stats", {}),
    ("usage_by", {"by": "model"}),
    ("usage_by", {"by": "step", "split": "tier"}),
    ("usage_by", {"by": "status", "split": "user_id"}),
    ("engagements_by", {"key": "n"}),
    ("engagements_by", {"key": "status"}),
    ("cohorts", {"by": "day"}),
    ("retention", {"by": "day"}),
    ("compare", {"a": {"tier": "pro"}, "b": {"tier": "free", "user_id": "u0"}}),
]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_question_is_answered_as_the_ledger_does(asked_both, differ):
    ledger, other, connection = asked_both
    (first, last) = connection.execute(
        "SELECT min(occurred_ns), max(occurred_ns) FROM steps"
    ).fetchone()
    between = [first + (last - first) * part // 3 for part in (1, 2)]
    choices = [
        {},
        {"as_of": moment(last) + timedelta(hours=2)},
        {"as_of": moment(between[0])},
        {"since": moment(between[0]), "until": moment(between[1])},
        {"metadata": {"tier": "pro", "n": 1}, "idle_after": timedelta(days=3)},
    ]
    rows = 0
    for number, chosen in enumerate(choices):
        # All as they stand; with each restriction, some.
        for question, arguments in QUESTIONS[number and number - 1 :: 3 if number else 1]:
            count, wrong = differ(ledger, other, question, {**arguments, **chosen})
            assert wrong == [], (question, arguments, chosen)
            rows += count
    statuses = {row["status"] for row in other.ask("journeys", choices[1])}
    assert statuses == {"completed", "failed", "abandoned"}
    assert {row["status"] for row in other.ask("journeys", {})} >= {"paused", "completed", "failed"}
    assert rows > 150
