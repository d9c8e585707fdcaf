"""Funnels over what real graphs did: optional steps, loops, Sends, pauses, failures, outsiders."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from analytics.walks import Walk, column, told, walking
from graphs import State, calling, llm
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.types import Command, Send, interrupt

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Flow

FIVE = ("intake", "selection", "comparison", "application", "submitted")
LATER = "as_of := (now() AT TIME ZONE 'UTC')::TIMESTAMP + INTERVAL 31 MINUTE"
COUNTS = "step, reached, advanced, waiting, active, failed, interrupted, dropped"


@pytest.fixture
def journeys(flow_with: Callable[..., Flow]) -> Flow:
    """Four journeys towards a goal: all of it, without a step, left half way, left at once."""
    flow = flow_with(goals=["submitted"])
    graph = walking(*FIVE)
    for user, route in (
        ("u1", FIVE),
        ("u2", ("intake", "selection", "application", "submitted")),
        ("u3", ("intake", "selection")),
        ("u1", ("intake",)),
    ):
        graph.invoke({"route": list(route), "log": []}, {"metadata": {"user_id": user}})
    return flow


def test_four_journeys_through_five_steps(journeys: Flow) -> None:
    question = f"funnel({list(FIVE)})"
    assert column(journeys, question, "reached") == [4, 3, 1, 2, 2]
    assert column(journeys, question, "dropped") == [1, 1, 0, 0, 0]
    assert column(journeys, question, "conversion_rate") == [
        0.75, pytest.approx(2 / 3), 1.0, 1.0, None,
    ]  # fmt: skip
    assert column(journeys, question, "total_tokens") == [60, 45, 15, 30, 30]
    assert column(journeys, question, "visits") == [4, 3, 1, 2, 2]


def test_who_came_twice_has_two_engagements(journeys: Flow) -> None:
    question = f"funnel({list(FIVE)}, user_id := 'u1')"
    assert column(journeys, question, "reached") == [2, 1, 1, 1, 1]
    assert len(told(journeys, "journeys(user_id := 'u1')")) == 2


def test_a_cell_leads_to_its_engagements_and_to_their_traces(journeys: Flow) -> None:
    drilled = told(journeys, f"funnel_engagements({list(FIVE)})")
    left = [row for row in drilled if row["step"] == "selection" and row["outcome"] == "dropped"]
    [user] = [
        row["user_id"]
        for row in told(journeys, "journeys()")
        if row["engagement_id"] == left[0]["engagement_id"]
    ]
    assert user == "u3"
    [span] = [
        span
        for span in journeys.spans
        if span.context and f"{span.context.span_id:016x}" == left[0]["step_id"]
    ]
    assert (span.name, f"{span.context.trace_id:032x}") == ("step selection", left[0]["trace_id"])


def test_an_optional_step_costs_nobody_anything(flow_with: Callable[..., Flow]) -> None:
    flow = flow_with(goals=["submitted"])
    graph = walking("intake", "comparison", "submitted")
    for route in (
        ["intake", "comparison", "submitted"],
        ["intake", "submitted"],
        ["intake", "comparison"],
    ):
        graph.invoke({"route": route, "log": []})
    [intake, comparison, submitted] = told(flow, "funnel(['intake', 'comparison', 'submitted'])")
    assert (comparison["reached"], comparison["dropped"]) == (2, 1)
    assert comparison["conversion_rate"] == 0.5
    assert (intake["conversion_rate"], intake["step_rate"]) == (1.0, pytest.approx(2 / 3))
    assert (submitted["reached"], submitted["conversion_rate"]) == (2, None)
    # In their order it is another question: who went through all of them.
    assert column(
        flow, "funnel(['intake', 'comparison', 'submitted'], ordered := true)", "reached"
    ) == [3, 2, 1]


def test_a_loop_is_one_engagement_and_three_visits(flow: Flow) -> None:
    walking("it", tokens=(5, 5)).invoke({"route": ["it"] * 3, "log": []})
    [row] = told(flow, "funnel(['it'])")
    assert (row["reached"], row["visits"], row["total_tokens"]) == (1, 3, 30)
    [(mean,)] = flow.sql("SELECT avg(duration_ms) FROM steps")
    assert row["avg_working_ms"] == pytest.approx(mean)


def test_a_step_is_followed_by_itself_only_where_it_loops(flow: Flow) -> None:
    graph = walking("it", tokens=(5, 5))
    graph.invoke({"route": ["it"] * 2, "log": []})
    graph.invoke({"route": ["it"], "log": []})
    assert column(flow, "funnel(['it', 'it', 'it'], ordered := true)", "reached") == [2, 1, 0]
    assert column(flow, "funnel(['it', 'it', 'it'])", "reached") == [2, 2, 2]


def test_three_workers_spend_what_three_spend(flow: Flow) -> None:
    builder = StateGraph(State)
    builder.add_node("plan", lambda state: {"log": ["plan"]})
    builder.add_node("worker", calling(llm(10, 1)))
    builder.add_edge(START, "plan")
    builder.add_conditional_edges("plan", lambda s: [Send("worker", {})] * 3, ["worker"])
    builder.compile().invoke({"log": []})
    [_, row] = told(flow, "funnel(['plan', 'worker'])")
    assert (row["reached"], row["visits"], row["total_tokens"]) == (1, 3, 33)


def test_a_step_of_a_subgraph_is_found_by_its_last_name(flow: Flow) -> None:
    inner = walking("ask", "look")
    outer = StateGraph(Walk)
    outer.add_node("sub", inner)
    outer.add_node("ask", lambda state: {})
    outer.add_edge(START, "ask")
    outer.add_edge("ask", "sub")
    outer.compile().invoke({"route": ["ask", "look"], "log": []})
    rows = told(flow, "funnel(['sub', 'look', 'ask', 'sub/ask'])")
    assert [(row["step"], row["reached"], row["total_tokens"]) for row in rows] == [
        ("sub", 1, 30),
        ("sub/look", 1, 15),
        ("ask", 1, 0),
        ("sub/ask", 1, 15),
    ]


def asking(*, model: Any) -> Any:
    def ask(state: Walk) -> Walk:
        interrupt("sure?")
        model.invoke("hello")
        return {"log": ["asked"]}

    return ask


@pytest.fixture
def paused(flow: Flow) -> Flow:
    """Ten users are asked, and two of them answer."""
    graph = walking("ask", "done", saver=InMemorySaver(), ask=asking(model=llm(20, 10)))
    for number in range(10):
        config: Any = {"configurable": {"thread_id": f"t{number}"}}
        graph.invoke({"route": ["ask", "done"], "log": []}, config)
        if number < 2:
            graph.invoke(Command(resume="yes"), config)
    return flow


def test_who_has_not_answered_yet_waits_and_is_not_dropped(paused: Flow) -> None:
    [ask, done] = told(
        paused, "funnel(['ask', 'done'])", f"{COUNTS}, visits, conversion_rate, total_tokens"
    )
    assert (ask["reached"], ask["visits"]) == (10, 10)
    assert (ask["dropped"], ask["waiting"], ask["advanced"]) == (0, 8, 2)
    assert (ask["conversion_rate"], done["reached"]) == (1.0, 2)
    assert ask["total_tokens"] == 60
    [row] = [row for row in told(paused, "step_stats()") if row["step"] == "ask"]
    assert (row["visits"], row["executions"], row["waited"]) == (10, 12, 10)


def test_who_was_silent_too_long_is_dropped_and_may_come_back(paused: Flow) -> None:
    [ask, _] = told(paused, f"funnel(['ask', 'done'], {LATER})")
    assert (ask["dropped"], ask["waiting"], ask["advanced"]) == (8, 0, 2)
    assert ask["conversion_rate"] == pytest.approx(0.2)
    [row] = told(paused, f"drop_offs({LATER})")
    assert (row["step"], row["status"], row["reason"]) == ("ask", "abandoned", "left")
    assert (row["engagements"], row["share"], row["of_reached"]) == (8, 0.8, 0.8)
    # Nobody's patience is law.
    [ask, _] = told(paused, f"funnel(['ask', 'done'], {LATER}, idle_after := INTERVAL 1 HOUR)")
    assert (ask["dropped"], ask["waiting"]) == (0, 8)


def test_of_several_questions_each_keeps_somebody_waiting(flow: Flow) -> None:
    builder = StateGraph(Walk)
    for name in ("name", "address"):
        builder.add_node(name, asking(model=llm(1, 1)))
        builder.add_edge(START, name)
    graph = builder.compile(checkpointer=InMemorySaver())
    config: Any = {"configurable": {"thread_id": "t"}}
    graph.invoke({"route": [], "log": []}, config)
    assert column(flow, "funnel(['name', 'address'])", "waiting") == [1, 1]
    [first, _] = graph.get_state(config).interrupts
    graph.invoke(Command(resume={first.id: "Ada"}), config)
    assert sorted(column(flow, "funnel(['name', 'address'])", "waiting")) == [0, 1]
    assert column(flow, f"funnel(['name', 'address'], {LATER})", "advanced").count(1) == 1


def test_the_rate_from_step_to_step_stands_beside_the_drop_rate(flow: Flow) -> None:
    graph = walking("a", "b")
    for number in range(10):
        graph.invoke({"route": ["a", "b"][: 2 if number < 3 else 1], "log": []})
    [a, b] = told(flow, "funnel(['a', 'b'])")
    assert (a["reached"], b["reached"]) == (10, 3)
    assert (a["step_rate"], a["conversion_rate"], a["dropped"]) == (pytest.approx(0.3), 1.0, 0)


def test_who_failed_is_not_dropped(flow: Flow) -> None:
    def pay(state: Walk) -> Walk:
        msg = "no"
        raise ValueError(msg)

    graph = walking("cart", "pay", pay=pay)
    with pytest.raises(ValueError, match="no"):
        graph.invoke({"route": ["cart", "pay"], "log": []})
    [cart, paid] = told(flow, "funnel(['cart', 'pay'])", COUNTS)
    assert (cart["advanced"], cart["failed"], cart["dropped"]) == (1, 0, 0)
    assert (paid["advanced"], paid["failed"], paid["dropped"]) == (0, 1, 0)
    [row] = told(flow, "drop_offs()")
    assert (row["step"], row["status"], row["reason"]) == ("pay", "failed", None)


def test_calls_outside_engagements_are_in_no_funnel(flow: Flow) -> None:
    walking("a").invoke({"route": ["a"], "log": []})
    for _ in range(3):
        llm(7, 3).invoke("hello")
    [row] = told(flow, "funnel(['a'])")
    assert (row["reached"], row["total_tokens"]) == (1, 15)
    assert len(told(flow, "journeys()")) == 1
    [model] = told(flow, "usage_by('model')")
    assert (model["calls"], model["total_tokens"], model["engagements"]) == (4, 45, 1)
    by_caller = {row["key"]: row["total_tokens"] for row in told(flow, "usage_by('caller')")}
    assert by_caller[None] == 15
    [outside] = [tokens for caller, tokens in by_caller.items() if caller is not None]
    assert outside == 30
    [inside] = told(flow, "usage_by('model', name := (SELECT any_value(name) FROM engagements))")
    assert inside["total_tokens"] == 15


@pytest.mark.parametrize(
    ("value", "literal"), [(1, "1"), ("1", "'1'"), (True, "true")], ids=["number", "text", "true"]
)
def test_one_as_number_as_text_and_true_are_three_values(
    flow: Flow, value: Any, literal: str
) -> None:
    graph = walking("a")
    for one in (1, "1", True):
        graph.invoke({"route": ["a"], "log": []}, {"metadata": {"hits": one}})
    [row] = told(flow, f"funnel(['a'], metadata := {{'hits': {literal}}})")
    assert row["reached"] == 1
    [found] = told(flow, f"journeys(metadata := {{'hits': {literal}}})")
    assert json.loads(found["metadata"]) == {"hits": value}
    assert type(json.loads(found["metadata"])["hits"]) is type(value)
    [row] = told(flow, "funnel(['a'], metadata := '{\"hits\": null}')")
    assert row["reached"] == 0
