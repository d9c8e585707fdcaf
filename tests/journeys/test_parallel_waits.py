"""Several questions at once, one inside another, or on several threads, on real graphs."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Annotated, Any, TypedDict

import pytest
from graphs import FakeLLM, State, chain, llm, usage
from langchain.agents import create_agent
from langchain.agents.middleware import HumanInTheLoopMiddleware
from langchain_core.messages import AIMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.func import entrypoint, task
from langgraph.graph import START, StateGraph
from langgraph.types import Command, Send, interrupt

if TYPE_CHECKING:
    from conftest import Flow

pytestmark = pytest.mark.usefixtures("_bit_by_bit_and_at_once")

THREAD: Any = {"configurable": {"thread_id": "t"}}
SPENT = "total_tokens, replayed_tokens, retried_tokens, forked_tokens"
ANSWERED = "SELECT label, path, resolution, is_open FROM waits ORDER BY label, asked_at"


def asking(label: str, model: Any = None) -> Any:
    def ask(state: State) -> State:
        if model is not None:
            model.invoke("what is to be asked?")
        return {"log": [interrupt({"awaiting": label})]}

    return ask


def side_by_side(**nodes: Any) -> Any:
    """A graph whose nodes all run at once, and then `join`."""
    built = StateGraph(State)
    for name, node in nodes.items():
        built.add_node(name, node)
        built.add_edge(START, name)
    built.add_node("join", lambda state: {"log": ["join"]})
    built.add_edge(list(nodes), "join")
    return built.compile(checkpointer=InMemorySaver())


def around(inner: Any) -> Any:
    built = StateGraph(State)
    built.add_node("sub", inner)
    built.add_edge(START, "sub")
    return built.compile(checkpointer=InMemorySaver())


def ids(result: Any) -> dict[str, str]:
    """The open questions of a result: id by label."""
    return {one.value["awaiting"]: one.id for one in result["__interrupt__"]}


def test_two_nodes_ask_at_once_and_are_answered_one_by_one(flow: Flow) -> None:
    app = side_by_side(left=asking("l", llm(20, 10)), right=asking("r"))
    open_ones = ids(app.invoke({"log": []}, THREAD))
    assert flow.sql(ANSWERED) == [("l", "left", None, True), ("r", "right", None, True)]
    assert flow.sql("SELECT status FROM engagements") == [("paused",)]
    app.invoke(Command(resume={open_ones["r"]: "second first"}), THREAD)
    assert flow.sql(ANSWERED) == [("l", "left", None, True), ("r", "right", "answered", False)]
    assert flow.sql("SELECT status FROM engagements") == [("paused",)]
    app.invoke(Command(resume={open_ones["l"]: "then the first"}), THREAD)
    assert flow.sql(ANSWERED) == [
        ("l", "left", "answered", False),
        ("r", "right", "answered", False),
    ]
    turns = flow.sql("SELECT turn_id FROM turns ORDER BY started_at")
    answering = flow.sql("SELECT answered_turn_id FROM waits ORDER BY label")
    assert answering == [turns[2], turns[1]]
    assert flow.sql(f"SELECT status, turns, {SPENT} FROM engagements") == [
        ("completed", 3, 90, 60, 0, 0)
    ]
    lengths = dict(flow.sql("SELECT label, waited_ms FROM waits"))
    assert lengths["l"] > lengths["r"] > 0


def test_a_plain_answer_to_two_questions_answers_none(flow: Flow) -> None:
    app = side_by_side(left=asking("l"), right=asking("r"))
    open_ones = ids(app.invoke({"log": []}, THREAD))
    with pytest.raises(RuntimeError, match="interrupt id"):
        app.invoke(Command(resume="for whom?"), THREAD)
    assert flow.sql("SELECT is_open FROM waits") == [(True,), (True,)]
    app.invoke(Command(resume=dict.fromkeys(open_ones.values(), "both")), THREAD)
    assert flow.sql("SELECT resolution FROM waits") == [("answered",), ("answered",)]
    assert flow.sql("SELECT status, turns FROM engagements") == [("completed", 3)]


def test_a_message_supersedes_all_open_questions(flow: Flow) -> None:
    app = side_by_side(left=asking("l"), right=asking("r"))
    app.invoke({"log": []}, THREAD)
    anew = ids(app.invoke({"log": ["other"]}, THREAD))
    app.invoke(Command(resume=dict.fromkeys(anew.values(), "both")), THREAD)
    assert sorted(flow.sql("SELECT label, resolution, is_open FROM waits")) == [
        ("l", "answered", False),
        ("l", "superseded", False),
        ("r", "answered", False),
        ("r", "superseded", False),
    ]


def test_of_three_sent_workers_two_ask(flow: Flow) -> None:
    model = llm(20, 10)

    class Order(TypedDict, total=False):
        log: Annotated[list[Any], operator.add]
        number: int

    def worker(state: Order) -> Order:
        model.invoke("work")
        number = state.get("number", 0)
        return {"log": [interrupt({"awaiting": f"w{number}"}) if number < 2 else "w2"]}

    built = StateGraph(Order)
    built.add_node("plan", lambda state: {"log": ["plan"]})
    built.add_node("worker", worker)
    built.add_node("join", lambda state: {"log": ["join"]})
    built.add_edge(START, "plan")
    sends = [Send("worker", {"number": number}) for number in range(3)]
    built.add_conditional_edges("plan", lambda state: sends, ["worker"])
    built.add_edge("worker", "join")
    app = built.compile(checkpointer=InMemorySaver())
    open_ones = ids(app.invoke({"log": []}, THREAD))
    app.invoke(Command(resume={open_ones["w1"]: "B"}), THREAD)
    assert app.invoke(Command(resume={open_ones["w0"]: "A"}), THREAD)["log"][-1] == "join"

    assert flow.sql(f"SELECT {SPENT} FROM turns ORDER BY started_at") == [
        (90, 0, 0, 0),
        (60, 60, 0, 0),
        (30, 30, 0, 0),
    ]
    assert flow.sql(f"SELECT steps, {SPENT} FROM engagements") == [(8, 180, 90, 0, 0)]
    assert flow.sql(ANSWERED) == [
        ("w0", "worker", "answered", False),
        ("w1", "worker", "answered", False),
    ]
    executions = flow.sql(
        "SELECT list(status ORDER BY started_at), count(DISTINCT visit) FROM steps "
        "WHERE path = 'worker' GROUP BY execution_id ORDER BY 1"
    )
    assert executions == [
        (["completed"], 1),
        (["waiting", "completed"], 1),
        (["waiting", "waiting", "completed"], 1),
    ]
    # Each of them ended in another turn, and the step that joins them follows from all.
    edges = "SELECT from_step, to_step, count(*) FROM transitions GROUP BY ALL ORDER BY 1"
    assert flow.sql(edges) == [("plan", "worker", 3), ("worker", "join", 3)]
    assert flow.sql("SELECT DISTINCT visit FROM steps WHERE path = 'worker' ORDER BY 1") == [
        (1,),
        (2,),
        (3,),
    ]


def test_two_tools_of_an_agent_ask(flow: Flow) -> None:
    model = llm(20, 10)

    @tool
    def pay(amount: int) -> str:
        """Pay."""
        model.invoke("is it safe?")
        return f"{amount}: {interrupt({'awaiting': f'pay {amount}'})}"

    calls: Any = [{"name": "pay", "args": {"amount": n}, "id": f"c{n}"} for n in (5, 6)]
    talker = FakeLLM(
        replies=[
            AIMessage("", tool_calls=calls, usage_metadata=usage(20, 5)),
            AIMessage("paid", usage_metadata=usage(30, 6)),
        ]
    )
    app: Any = create_agent(talker, [pay], checkpointer=InMemorySaver(), name="payer")
    open_ones = ids(app.invoke({"messages": [("user", "pay")]}, THREAD))
    app.invoke(Command(resume={open_ones["pay 6"]: "yes"}), THREAD)
    app.invoke(Command(resume={open_ones["pay 5"]: "yes"}), THREAD)
    assert flow.sql(f"SELECT status, errors, {SPENT} FROM engagements") == [
        ("completed", 0, 85 + 60 + 66, 90, 0, 0)
    ]
    assert flow.sql(ANSWERED) == [
        ("pay 5", "tools", "answered", False),
        ("pay 6", "tools", "answered", False),
    ]
    assert flow.sql(
        "SELECT replayed, status, count(*) FROM tool_calls GROUP BY ALL ORDER BY ALL"
    ) == [
        (False, "waiting", 2),
        (True, "ok", 2),
        (True, "waiting", 1),
    ]
    assert flow.sql("SELECT DISTINCT agent_name FROM steps") == [("payer",)]


def test_a_person_approves_a_tool(flow: Flow) -> None:
    @tool
    def pay(amount: int) -> str:
        """Pay."""
        return f"paid {amount}"

    calls: Any = [{"name": "pay", "args": {"amount": 5}, "id": "c1"}]
    talker = FakeLLM(
        replies=[
            AIMessage("", tool_calls=calls, usage_metadata=usage(20, 5)),
            AIMessage("done", usage_metadata=usage(30, 6)),
        ]
    )
    app: Any = create_agent(
        talker,
        [pay],
        middleware=[HumanInTheLoopMiddleware(interrupt_on={"pay": True})],
        checkpointer=InMemorySaver(),
    )
    app.invoke({"messages": [("user", "pay")]}, THREAD)
    app.invoke(Command(resume={"decisions": [{"type": "approve"}]}), THREAD)
    assert flow.sql("SELECT label, resolution FROM waits") == [("pay", "answered")]
    assert flow.sql(f"SELECT tool_calls, {SPENT} FROM engagements") == [(1, 61, 0, 0, 0)]


def test_a_subgraph_with_a_memory_of_its_own_asks_in_every_turn(flow: Flow) -> None:
    model = llm(20, 10)

    def ask(state: State) -> State:
        model.invoke("what is to be asked?")
        return {"log": [interrupt({"awaiting": "one"}), interrupt({"awaiting": "two"})]}

    app = around(chain("ask", ask=ask).copy(update={"checkpointer": True}))
    for _ in range(2):
        app.invoke({"log": []}, THREAD)
        app.invoke(Command(resume="1"), THREAD)
        app.invoke(Command(resume="2"), THREAD)
    assert flow.sql(f"SELECT status, turns, {SPENT} FROM engagements") == [
        ("completed", 6, 180, 120, 0, 0)
    ]
    assert flow.sql(ANSWERED) == [
        *[("one", "sub/ask", "answered", False)] * 2,
        *[("two", "sub/ask", "answered", False)] * 2,
    ]
    assert flow.sql("SELECT DISTINCT visit FROM steps") == [(1,)]


def test_tasks_of_an_entrypoint_ask_one_after_another(flow: Flow) -> None:
    model = llm(20, 10)

    @task
    def think() -> None:
        model.invoke("think")

    @task
    def ask(label: str) -> str:
        return interrupt({"awaiting": label})

    @entrypoint(checkpointer=InMemorySaver())
    def work(_: str) -> list[str]:
        think().result()
        return [ask("one").result(), ask("two").result()]

    work.invoke("go", THREAD)
    work.invoke(Command(resume="1"), THREAD)
    assert work.invoke(Command(resume="2"), THREAD) == ["1", "2"]
    assert flow.sql(f"SELECT status, {SPENT} FROM engagements") == [("completed", 30, 0, 0, 0)]
    assert flow.sql(ANSWERED) == [
        ("one", "work/ask", "answered", False),
        ("two", "work/ask", "answered", False),
    ]
    assert flow.sql(
        "SELECT visit, status FROM steps WHERE path = 'work/ask' ORDER BY started_at"
    ) == [(1, "waiting"), (1, "completed"), (2, "waiting"), (2, "completed")]


def test_a_question_that_an_edit_took_away_is_not_open_for_ever(flow: Flow) -> None:
    app = chain("a", "ask", ask=asking("q")).copy(update={"checkpointer": InMemorySaver()})
    app.invoke({"log": []}, THREAD)
    app.update_state(THREAD, {"log": ["edited"]}, as_node="a")
    app.invoke(None, THREAD)  # the same node asks anew: another task, another question
    app.invoke(Command(resume="yes"), THREAD)
    assert flow.sql("SELECT resolution, is_open FROM waits ORDER BY asked_at") == [
        ("superseded", False),
        ("answered", False),
    ]
    assert flow.sql("SELECT kind, outcome FROM turns ORDER BY started_at") == [
        ("new", "paused"),
        ("resume", "paused"),
        ("resume", "completed"),
    ]


def test_a_question_handed_back_as_a_result_is_not_open_for_ever(flow: Flow) -> None:
    inner = chain("ask", ask=asking("q")).copy(update={"checkpointer": InMemorySaver()})

    def node(state: State) -> State:
        found = inner.invoke({"log": []}, {"configurable": {"thread_id": "its own"}})
        return {"log": ["__interrupt__" in found]}

    chain("node", node=node).invoke({"log": []})
    assert flow.sql("SELECT status FROM engagements") == [("completed",)]
    assert flow.sql("SELECT count(*) FROM waits WHERE is_open") == [(0,)]


def test_an_answer_with_an_update_and_a_destination(flow: Flow) -> None:
    built = StateGraph(State)
    built.add_node("ask", asking("q"))
    for name in ("x", "y"):
        built.add_node(name, lambda state, name=name: {"log": [name]})
    built.add_edge(START, "ask")
    built.add_edge("ask", "x")
    app = built.compile(checkpointer=InMemorySaver())
    app.invoke({"log": []}, THREAD)
    app.invoke(Command(resume="yes", update={"log": ["edited"]}, goto="y"), THREAD)
    assert flow.sql(ANSWERED) == [("q", "ask", "answered", False)]
    assert flow.sql("SELECT kind, outcome, resolution FROM turns ORDER BY started_at") == [
        ("new", "paused", None),
        ("resume", "completed", "answered"),
    ]
    assert flow.sql("SELECT status, turns FROM engagements") == [("completed", 2)]


def test_two_threads_of_one_engagement_do_not_answer_for_each_other(flow: Flow) -> None:
    app = chain("ask", ask=asking("q", llm(20, 10))).copy(update={"checkpointer": InMemorySaver()})
    one, other = (
        {
            "configurable": {"thread_id": thread},
            "metadata": {"spanflow_engagement_id": "their session"},
        }
        for thread in ("one", "other")
    )
    app.invoke({"log": []}, one)
    app.invoke({"log": []}, other)
    app.invoke(Command(resume="b"), other)
    assert flow.sql("SELECT is_open FROM waits ORDER BY asked_at") == [(True,), (False,)]
    app.invoke(Command(resume="a"), one)
    turns = flow.sql("SELECT turn_id FROM turns ORDER BY started_at")
    assert flow.sql("SELECT resolution, answered_turn_id FROM waits ORDER BY asked_at") == [
        ("answered", *turns[3]),
        ("answered", *turns[2]),
    ]
    assert flow.sql(f"SELECT turns, {SPENT} FROM engagements") == [(4, 120, 60, 0, 0)]
    assert flow.sql("SELECT DISTINCT visit FROM steps") == [(1,)]
