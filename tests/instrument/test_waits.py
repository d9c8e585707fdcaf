"""Whatever makes a run wait for a human is a wait: asked once, where it is asked, and no error."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any

import pytest
from graphs import FakeLLM, State, calling, chain, llm
from langchain.agents import create_agent
from langchain_core.messages import AIMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.func import entrypoint, task
from langgraph.graph import START, StateGraph
from langgraph.types import Command, Send, interrupt
from opentelemetry.trace import StatusCode

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Flow

CONTENT = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
CONFIG: Any = {"configurable": {"thread_id": "t"}}


@pytest.fixture
def content(monkeypatch: pytest.MonkeyPatch) -> None:
    """Content is captured."""
    monkeypatch.setenv("OTEL_SEMCONV_STABILITY_OPT_IN", "gen_ai_latest_experimental")
    monkeypatch.setenv(CONTENT, "SPAN_ONLY")


def saved(graph: Any) -> Any:
    """The same graph on threads with checkpoints."""
    return graph.builder.compile(checkpointer=InMemorySaver())


def asking(*questions: Any) -> Any:
    return lambda state: {"log": [interrupt(question) for question in questions]}


def within(graph: Any) -> Any:
    builder = StateGraph(State)
    builder.add_node("sub", graph)
    builder.add_edge(START, "sub")
    return builder.compile(checkpointer=InMemorySaver())


def side_by_side(**nodes: Any) -> Any:
    builder = StateGraph(State)
    for name, node in nodes.items():
        builder.add_node(name, node)
        builder.add_edge(START, name)
    return builder.compile(checkpointer=InMemorySaver())


def turns(flow: Flow) -> list[Any]:
    return [s for s in flow.spans if s.attributes and "spanflow.turn.kind" in s.attributes]


def asked(flow: Flow) -> list[tuple[str, dict[str, Any]]]:
    """Where each question was asked and how it was told, on spans and in records alike."""
    on_spans = sorted(
        (str(span.attributes["spanflow.step.path"]), event.attributes["spanflow.event.payload"])
        for span in flow.spans
        for event in span.events
        if event.name == "wait" and "spanflow.step.path" in span.attributes  # type: ignore[operator]
    )
    rows = flow.sql(
        """SELECT path, e.payload FROM records, unnest(from_json(events, '[{"kind":"VARCHAR",
           "payload":"JSON"}]')) u(e) WHERE kind = 'step' AND e.kind = 'wait' ORDER BY ALL"""
    )
    recorded = [(path, json.loads(payload)) for path, payload in rows]
    told = [(path, json.loads(payload)) for path, payload in on_spans]
    assert sorted(told, key=str) == sorted(recorded, key=str)
    return recorded


def waits_like_one(flow: Flow) -> list[str]:
    """Check that nothing of a pause looks like an error; return the ids the turn tells."""
    for span in flow.spans:
        assert span.status.status_code is StatusCode.UNSET, span.name
        assert not [event for event in span.events if event.name == "exception"], span.name
    assert flow.one("SELECT count(*) FROM records WHERE error_type IS NOT NULL") == 0
    [turn] = turns(flow)
    assert turn.attributes["spanflow.turn.outcome"] == "paused"
    ids = list(turn.attributes["spanflow.turn.interrupt_ids"])
    [told] = flow.sql("SELECT status, attributes FROM records WHERE kind = 'turn'")
    assert told[0] == "paused"
    assert json.loads(told[1])["spanflow.turn.interrupt_ids"] == ids
    return ids


@tool
def confirm(what: str) -> str:
    """Ask a human."""
    return interrupt({"awaiting": "a yes", "what": what})


def in_a_tool(state: State) -> State:
    return {"log": [confirm.invoke({"what": "pay"})]}


def in_a_nested_run(state: State) -> State:
    return {"log": chain("deep", deep=asking("deep?")).invoke({"log": []})["log"]}


WHERE = pytest.mark.parametrize(
    ("app", "paths", "waiting"),
    [
        (saved(chain("ask", ask=asking("?"))), ["ask"], {"ask"}),
        (saved(chain("ask", ask=in_a_tool)), ["ask"], {"ask"}),
        (within(chain("x", "ask", ask=asking("?"))), ["sub/ask"], {"sub", "sub/ask"}),
        (
            within(within(chain("ask", ask=asking("?"))).builder.compile()),
            ["sub/sub/ask"],
            {"sub", "sub/sub", "sub/sub/ask"},
        ),
        (saved(chain("ask", ask=in_a_nested_run)), ["ask/deep"], {"ask", "ask/deep"}),
        (side_by_side(a=asking("a?"), b=asking("b?")), ["a", "b"], {"a", "b"}),
        (
            within(side_by_side(a=asking("a?"), b=asking("b?")).builder.compile()),
            ["sub/a", "sub/b"],
            {"sub", "sub/a", "sub/b"},
        ),
    ],
    ids=["node", "tool", "subgraph", "deeper", "invoked", "parallel", "parallel-in-subgraph"],
)


@WHERE
def test_a_question_is_told_once_where_it_is_asked(
    flow: Flow, app: Any, paths: list[str], waiting: set[str]
) -> None:
    app.checkpointer = InMemorySaver()
    result = app.invoke({"log": []}, CONFIG)
    told = asked(flow)
    assert [path for path, _ in told] == paths
    ids = {payload["id"] for _, payload in told}
    assert ids == {question.id for question in result["__interrupt__"]}
    assert set(waits_like_one(flow)) == ids
    assert {path for path, status in flow.steps() if status == "waiting"} == waiting
    assert all("payload" not in payload for _, payload in told)
    assert all(CONTENT not in str(span.attributes) for span in flow.spans)


@WHERE
async def test_a_question_asynchronously(
    flow: Flow, app: Any, paths: list[str], waiting: set[str]
) -> None:
    app.checkpointer = InMemorySaver()
    result = await app.ainvoke({"log": []}, CONFIG)
    told = asked(flow)
    assert [path for path, _ in told] == paths
    assert {payload["id"] for _, payload in told} == {q.id for q in result["__interrupt__"]}
    assert {path for path, status in flow.steps() if status == "waiting"} == waiting


def test_the_functional_api_waits_in_its_task(flow: Flow) -> None:
    @task
    def ask(what: str) -> str:
        return interrupt(what)

    @entrypoint(checkpointer=InMemorySaver())
    def work(value: int) -> str:
        return ask("sure?").result()

    [question] = work.invoke(1, CONFIG)["__interrupt__"]
    assert asked(flow) == [("work/ask", {"id": question.id})]
    assert set(flow.steps()) == {("work", "waiting"), ("work/ask", "waiting")}
    assert waits_like_one(flow) == [question.id]
    assert work.invoke(Command(resume="yes"), CONFIG) == "yes"
    assert flow.sql("SELECT outcome FROM turns ORDER BY started_at") == [
        ("paused",),
        ("completed",),
    ]


def test_many_that_were_sent_ask_one_question_each(flow: Flow) -> None:
    builder = StateGraph(State)
    builder.add_node("plan", lambda state: {"log": []})
    builder.add_node("ask", lambda state: {"log": [interrupt(state["log"])]})
    builder.add_edge(START, "plan")
    builder.add_conditional_edges("plan", lambda s: [Send("ask", {"log": [i]}) for i in range(40)])
    app = builder.compile(checkpointer=InMemorySaver())
    result = app.invoke({"log": []}, CONFIG)
    ids = {question.id for question in result["__interrupt__"]}
    assert len(ids) == 40
    assert {payload["id"] for _, payload in asked(flow)} == ids == set(waits_like_one(flow))


def test_the_questions_of_one_node_come_one_by_one(flow: Flow) -> None:
    app = saved(chain("ask", ask=asking("one?", "two?")))
    first = app.invoke({"log": []}, CONFIG)["__interrupt__"]
    second = app.invoke(Command(resume="1"), CONFIG)["__interrupt__"]
    assert app.invoke(Command(resume="2"), CONFIG)["log"] == ["1", "2"]
    assert {payload["id"] for _, payload in asked(flow)} == {q.id for q in [*first, *second]}
    executions = flow.sql("SELECT DISTINCT execution_id FROM records WHERE kind = 'step'")
    assert len(executions) == 1
    assert len(executions[0][0]) == 16
    assert {s.attributes["spanflow.step.execution_id"] for s in flow.named("step ask")} == {  # type: ignore[index]
        executions[0][0]
    }


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_node_that_asks_in_the_old_way_has_an_id_of_its_own(flow: Flow) -> None:
    """The deprecated exception has the same id for all; two nodes ask two questions."""
    from langgraph.errors import NodeInterrupt

    def ask(state: State) -> State:
        msg = "?"
        raise NodeInterrupt(msg)

    app = within(side_by_side(a=ask, b=ask).builder.compile())
    app.invoke({"log": []}, CONFIG)
    app.invoke(None, CONFIG)
    told = asked(flow)
    assert [path for path, _ in told] == ["sub/a", "sub/a", "sub/b", "sub/b"]
    assert len({payload["id"] for _, payload in told}) == 2


def test_without_checkpoints_there_is_no_execution_to_go_back_to(flow: Flow) -> None:
    chain("a").invoke({"log": []})
    assert flow.one("SELECT count(*) FROM records WHERE execution_id IS NOT NULL") == 0
    assert "spanflow.step.execution_id" not in flow.named("step a")[0].attributes  # type: ignore[operator]


def test_a_label_is_kept_apart(flow: Flow) -> None:
    questions: list[Any] = [
        {"awaiting": "approval", "card": 1},
        {"awaiting": "é" * 999},
        {"awaiting": 7},
        {"awaiting": None},
        "awaiting",
        None,
        {"action_requests": [{"name": "pay"}, {"name": "ship", "args": {}}]},
        {"action_requests": [{"nothing": 1}, 7]},
        {"action_requests": "none"},
        {"type": "tool_approval", "name": "pay", "args": {"secret": 1}},
    ]
    side_by_side(**{f"n{n}": asking(question) for n, question in enumerate(questions)}).invoke(
        {"log": []}, CONFIG
    )
    labels = [payload.get("awaiting") for _, payload in asked(flow)]
    assert labels == ["approval", "é" * 128, None, None, None, None, "pay, ship", None, None, "pay"]
    assert "secret" not in str([s.to_json() for s in flow.spans])


@pytest.mark.usefixtures("content")
@pytest.mark.parametrize(
    "question", [{"card": 1}, {"awaiting": "x", "card": [1, "é", None]}, None, {}, "", 0, False, []]
)
def test_the_payload_is_what_was_asked(flow: Flow, question: Any) -> None:
    saved(chain("ask", ask=asking(question))).invoke({"log": []}, CONFIG)
    [(_, told)] = asked(flow)
    assert told["payload"] == question
    assert type(told["payload"]) is type(question)
    [turn] = turns(flow)
    [interrupts] = json.loads(turn.attributes["spanflow.turn.interrupts"])
    assert interrupts == {"id": told["id"], "payload": question}


@pytest.mark.usefixtures("content")
def test_a_large_question_keeps_its_id_on_the_span(flow: Flow) -> None:
    """No back end may cut JSON in two: the span has the whole question or only its id."""
    saved(chain("ask", ask=asking({"awaiting": "x", "text": "y" * 3_000}))).invoke(
        {"log": []}, CONFIG
    )
    [event] = flow.named("step ask")[0].events
    on_span = json.loads(event.attributes["spanflow.event.payload"])  # type: ignore[index, arg-type]
    assert set(on_span) == {"id", "awaiting"}
    [turn] = turns(flow)
    assert "spanflow.turn.interrupts" not in turn.attributes
    assert list(turn.attributes["spanflow.turn.interrupt_ids"]) == [on_span["id"]]
    [(payload,)] = flow.sql("SELECT payload FROM events WHERE kind = 'wait'")
    assert json.loads(payload)["payload"]["text"] == "y" * 3_000


def agent_that_pays(**kwargs: Any) -> Any:
    calls = [{"name": name, "args": {}, "id": name} for name in ("pay", "ship")]
    model = FakeLLM(replies=[AIMessage("", tool_calls=calls), AIMessage("done")])

    @tool
    def pay() -> str:
        """Pay."""
        return "paid"

    @tool
    def ship() -> str:
        """Ship."""
        return "shipped"

    return create_agent(model, [pay, ship], checkpointer=InMemorySaver(), **kwargs)


def test_langchains_middleware_names_the_tools_to_approve(flow: Flow) -> None:
    from langchain.agents.middleware import HumanInTheLoopMiddleware

    middleware: Any = HumanInTheLoopMiddleware(interrupt_on={"pay": True, "ship": True})
    app = agent_that_pays(middleware=[middleware])
    app.invoke({"messages": [("user", "go")]}, CONFIG)
    [(path, told)] = asked(flow)
    assert path.startswith("HumanInTheLoop")
    assert told["awaiting"] == "pay, ship"
    waits_like_one(flow)
    approved = {"decisions": [{"type": "approve"}, {"type": "approve"}]}
    app.invoke(Command(resume=approved), CONFIG)
    assert flow.sql("SELECT outcome FROM turns ORDER BY started_at") == [
        ("paused",),
        ("completed",),
    ]


def test_two_resumes_of_one_pause_are_both_recorded(flow: Flow) -> None:
    together = threading.Barrier(2, timeout=120)
    rounds = iter(range(3))

    def ask(state: State) -> State:
        answer = interrupt("?")
        together.wait()
        llm(*((20, 10), (7, 3))[next(rounds)]).invoke("x")
        return {"log": [answer]}

    app = saved(chain("ask", ask=ask))
    app.invoke({"log": []}, CONFIG)
    threads = [
        threading.Thread(target=app.invoke, args=(Command(resume=answer), CONFIG))
        for answer in ("yes", "no")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    rows = flow.sql("SELECT outcome, total_tokens FROM turns ORDER BY ALL")
    assert rows == [("completed", 10), ("completed", 30), ("paused", 0)]
    assert flow.one("SELECT count(DISTINCT engagement_id) FROM turns") == 1
    executions = flow.sql("SELECT DISTINCT execution_id FROM records WHERE kind = 'step'")
    assert len(executions) == 1


def test_a_tools_call_waits_as_its_step_does(flow: Flow) -> None:
    saved(chain("ask", ask=in_a_tool)).invoke({"log": []}, CONFIG)
    assert flow.sql("SELECT name, status FROM tool_calls") == [("confirm", "waiting")]


def test_tokens_before_a_question_are_counted_in_each_turn(flow: Flow) -> None:
    def ask(state: State) -> State:
        calling(llm(20, 10))(state)
        return {"log": [interrupt("?")]}

    app = saved(chain("ask", ask=ask))
    app.invoke({"log": []}, CONFIG)
    app.invoke(Command(resume="yes"), CONFIG)
    assert flow.sql("SELECT total_tokens FROM turns") == [(30,), (30,)]


def test_a_wait_is_redacted(flow_with: Callable[..., Flow], content: None) -> None:
    flow = flow_with(redact="email")
    question = {"awaiting": "jane@example.com", "to": "jane@example.com"}
    saved(chain("ask", ask=asking(question))).invoke({"log": []}, CONFIG)
    assert len(asked(flow)) == 1
    assert "jane@example" not in str([s.to_json() for s in flow.spans])
    assert "jane@example" not in str(flow.sql("SELECT * FROM events"))
