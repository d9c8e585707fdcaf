"""Pauses and what became of them, on real graphs; the numbers come from the scripts."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from graphs import State, chain, llm
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, interrupt

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Flow

CONTENT = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
THREAD: Any = {"configurable": {"thread_id": "t"}}
SPENT = "total_tokens, replayed_tokens, retried_tokens, forked_tokens"


def asking(*questions: Any, model: Any = None) -> Any:
    """A node that asks a human one question after another, a model before each."""

    def ask(state: State) -> State:
        answers = []
        for question in questions:
            if model is not None:
                model.invoke("what is to be asked?")
            answers.append(interrupt(question))
        return {"log": answers}

    return ask


def thread_of(*names: str, **nodes: Any) -> Any:
    """A chain of nodes on a thread with checkpoints."""
    return chain(*names, **nodes).copy(update={"checkpointer": InMemorySaver()})


def statuses(flow: Flow) -> list[str]:
    """The statuses an engagement went through."""
    engagement = flow.one("SELECT engagement_id FROM engagements")
    return [
        s for (s,) in flow.sql(f"SELECT status FROM status_history('{engagement}') ORDER BY since")
    ]


def test_a_pause_and_its_answer_are_one_journey(flow: Flow) -> None:
    app = thread_of("qualify", "answer", qualify=asking({"awaiting": "confirm"}))
    app.invoke({"log": []}, THREAD)
    [first] = flow.sql("SELECT engagement_id, status FROM engagements")
    assert first[1] == "paused"
    app.invoke(Command(resume={"confirm": True}), THREAD)
    assert flow.sql("SELECT engagement_id, status FROM engagements") == [(first[0], "completed")]
    assert statuses(flow) == ["active", "paused", "active", "completed"]
    assert flow.steps() == [
        ("qualify", "waiting"),
        ("qualify", "completed"),
        ("answer", "completed"),
    ]
    assert flow.sql("SELECT visit, replayed FROM steps ORDER BY started_at") == [
        (1, False),
        (1, True),
        (1, False),
    ]
    for span in flow.spans:
        assert span.status.status_code.name == "UNSET", span.name
        assert not [event for event in span.events if event.name == "exception"]


@pytest.mark.parametrize(
    ("asked", "label"),
    [
        ({"card": 1}, None),
        ({"awaiting": "payment", "card": 1}, "payment"),
        ("a plain question", None),
        (None, None),
        ([1, "zwei", None], None),
        ({"awaiting": 7}, None),
        ({"awaiting": "確認🎌"}, "確認🎌"),
    ],
)
def test_the_payload_is_kept_as_it_is_and_the_label_apart(
    flow_with: Callable[..., Flow], monkeypatch: pytest.MonkeyPatch, asked: Any, label: str | None
) -> None:
    import json

    monkeypatch.setenv(CONTENT, "SPAN_ONLY")
    flow = flow_with()
    thread_of("ask", ask=asking(asked)).invoke({"log": []}, THREAD)
    [(payload, found)] = flow.sql("SELECT payload, label FROM waits")
    assert (json.loads(payload) if payload is not None else None) == asked
    assert found == label


def test_without_content_capture_only_the_label_is_kept(flow: Flow) -> None:
    app = thread_of("ask", ask=asking({"awaiting": "payment", "card": "4111-secret"}))
    app.invoke({"log": []}, THREAD)
    assert flow.sql("SELECT label, payload FROM waits") == [("payment", None)]
    assert "4111" not in str(flow.sql("FROM spans"))


@pytest.mark.parametrize("answer", [None, [], "", 0, False, {}, "yes", {"a": 1}])
def test_every_answer_arrives_as_without_us(flow: Flow, answer: Any) -> None:
    def run(config: Any) -> Any:
        app = thread_of("ask", "after", ask=asking("?"))
        app.invoke({"log": []}, config)
        try:
            return app.invoke(Command(resume=answer), config)["log"]
        except Exception as error:  # noqa: BLE001 - whatever LangGraph says of it
            return repr(error)

    untouched = run({**THREAD, "metadata": {"spanflow_enabled": False}})
    assert run(THREAD) == untouched
    assert flow.one("SELECT count(*) FROM turns") == 2


def test_two_pauses_in_one_node_repeat_what_stands_before_them(flow: Flow) -> None:
    app = thread_of("ask", ask=asking("one", "two", model=llm(20, 10)))
    app.invoke({"log": []}, THREAD)
    app.invoke(Command(resume="1"), THREAD)
    assert app.invoke(Command(resume="2"), THREAD)["log"] == ["1", "2"]
    turns = flow.sql(f"SELECT kind, outcome, {SPENT} FROM turns ORDER BY started_at")
    assert turns == [
        ("new", "paused", 30, 0, 0, 0),
        ("resume", "paused", 60, 30, 0, 0),
        ("resume", "completed", 60, 60, 0, 0),
    ]
    assert flow.sql(f"SELECT {SPENT} FROM engagements") == [(150, 90, 0, 0)]
    assert flow.sql(f"SELECT {SPENT} FROM steps ORDER BY started_at") == [row[2:] for row in turns]
    assert flow.sql("SELECT resolution, is_open FROM waits ORDER BY asked_at") == [
        ("answered", False),
        ("answered", False),
    ]
    assert flow.one("SELECT count(DISTINCT interrupt_id) FROM waits") == 2
    assert flow.sql("SELECT visit FROM steps") == [(1,)] * 3


def test_the_wait_lasts_from_the_question_to_the_answer(flow: Flow) -> None:
    app = thread_of("ask", ask=asking("?"))
    began = time.time_ns()
    app.invoke({"log": []}, THREAD)
    asked = time.time_ns()
    time.sleep(0.2)
    answered = time.time_ns()
    app.invoke(Command(resume="yes"), {**THREAD, "metadata": {"spanflow_resolution": "approved"}})
    ended = time.time_ns()
    [(waited_ms, resolution)] = flow.sql("SELECT waited_ms, resolution FROM waits")
    assert (answered - asked) / 1e6 <= waited_ms <= (ended - began) / 1e6
    assert resolution == "approved"
    [(working_ms, waiting_ms, metadata)] = flow.sql(
        "SELECT working_ms, waiting_ms, metadata FROM engagements"
    )
    assert (answered - asked) / 1e6 <= waiting_ms <= (ended - began) / 1e6
    assert 0 < working_ms <= (ended - began - (answered - asked)) / 1e6
    assert metadata is None
    [(own_ms,)] = flow.sql("SELECT waiting_ms FROM steps WHERE status = 'waiting'")
    assert own_ms == pytest.approx(waited_ms, abs=0.01)


def test_an_open_wait_has_no_length(flow: Flow) -> None:
    thread_of("ask", ask=asking("?")).invoke({"log": []}, THREAD)
    assert flow.sql("SELECT is_open, answered_at, waited_ms, resolution FROM waits") == [
        (True, None, None, None)
    ]
    assert flow.sql("SELECT status FROM engagements") == [("paused",)]


def test_two_who_answer_at_once(flow: Flow) -> None:
    """Both run on with their own tokens; the question was answered once."""
    together, model = threading.Barrier(2), llm(20, 10)

    def ask(state: State) -> State:
        answer = interrupt("?")
        together.wait(timeout=240)
        model.invoke("go on")
        return {"log": [answer]}

    app = thread_of("ask", ask=ask)
    app.invoke({"log": []}, THREAD)
    workers = [
        threading.Thread(target=app.invoke, args=(Command(resume=answer), THREAD))
        for answer in ("one", "two")
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert flow.sql("SELECT status, turns, llm_calls, total_tokens FROM engagements") == [
        ("completed", 3, 2, 60)
    ]
    turns = "SELECT kind, outcome, resolution, total_tokens FROM turns ORDER BY started_at, turn_id"
    assert flow.sql(turns) == [
        ("new", "paused", None, 0),
        ("resume", "completed", "answered", 30),
        ("resume", "completed", "conflict", 30),
    ]
    [(resolution, is_open, answered_by)] = flow.sql(
        "SELECT resolution, is_open, answered_turn_id FROM waits"
    )
    assert (resolution, is_open) == ("answered", False)
    assert answered_by == flow.one("SELECT turn_id FROM turns WHERE resolution = 'answered'")
    assert flow.one("SELECT replayed_tokens FROM engagements") == 0


def test_fresh_input_supersedes_an_open_question(flow: Flow) -> None:
    app = thread_of("ask", ask=asking({"awaiting": "confirm"}))
    app.invoke({"log": []}, THREAD)
    app.invoke({"log": ["never mind"]}, THREAD)
    assert flow.sql("SELECT kind, outcome FROM turns ORDER BY started_at") == [
        ("new", "paused"),
        ("message", "paused"),
    ]
    assert flow.sql(
        "SELECT resolution, is_open, waited_ms IS NULL FROM waits ORDER BY asked_at"
    ) == [("superseded", False, False), (None, True, True)]
    assert flow.sql("SELECT status, turns FROM engagements") == [("paused", 2)]
    assert flow.one("SELECT count(*) FROM engagements") == 1


@pytest.mark.parametrize("at", ["before", "after"])
@pytest.mark.parametrize("where", ["compiled", "called"])
def test_a_breakpoint_is_a_wait(flow: Flow, at: str, where: str) -> None:
    app = thread_of("a", "b")
    node = "b" if at == "before" else "a"
    halt: Any = {f"interrupt_{at}": [node]}
    if where == "compiled":
        app = app.copy(update={f"interrupt_{at}_nodes": [node]})
        halt = {}
    app.invoke({"log": []}, THREAD, **halt)
    assert flow.sql("SELECT status FROM engagements") == [("paused",)]
    asked = "SELECT kind, step_name, path, is_open, resolution, step_id IS NULL FROM waits"
    assert flow.sql(asked) == [(at, node, node, True, None, at == "before")]
    assert app.invoke(None, THREAD)["log"] == ["a", "b"]
    assert flow.sql(asked) == [(at, node, node, False, "answered", at == "before")]
    assert flow.sql("SELECT kind, outcome FROM turns ORDER BY started_at") == [
        ("new", "paused"),
        ("resume", "completed"),
    ]
    assert flow.steps() == [("a", "completed"), ("b", "completed")]
    assert flow.sql("SELECT from_step, to_step FROM transitions") == [("a", "b")]


def test_a_loop_that_asks_again_is_another_question_and_visit(flow: Flow) -> None:
    def ask(state: State) -> State:
        return {"log": [interrupt({"awaiting": f"round {len(state['log'])}"})]}

    built = StateGraph(State)
    built.add_node("ask", ask)
    built.add_edge(START, "ask")
    built.add_conditional_edges("ask", lambda s: END if len(s["log"]) == 2 else "ask", ["ask", END])
    app = built.compile(checkpointer=InMemorySaver())
    app.invoke({"log": []}, THREAD)
    app.invoke(Command(resume="a"), THREAD)
    app.invoke(Command(resume="b"), THREAD)
    assert flow.sql("SELECT path, visit, status FROM steps ORDER BY started_at") == [
        ("ask", 1, "waiting"),
        ("ask", 1, "completed"),
        ("ask", 2, "waiting"),
        ("ask", 2, "completed"),
    ]
    assert flow.sql("SELECT label, resolution FROM waits ORDER BY asked_at") == [
        ("round 0", "answered"),
        ("round 1", "answered"),
    ]
    assert flow.sql("SELECT from_step, to_step FROM transitions") == [("ask", "ask")]
