"""Pauses and resumptions of plain Python: what waits, who answers, and what becomes of the rest."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from graphs import State, chain
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.func import entrypoint, task
from langgraph.graph import START, StateGraph
from langgraph.types import Command, interrupt

import spanflow
from spanflow import guard

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Flow

STATUS = "SELECT status, dropped_at, abandon_reason, turns FROM engagements"
WAITS = "SELECT step_name, label, resolution, is_open FROM waits ORDER BY asked_at"


def ask(name: str, label: str | None = "approval", **payload: Any) -> None:
    with spanflow.engagement("booking", id=name), spanflow.step("confirm"):
        spanflow.pause(label, payload or None)


def test_a_pause_ends_the_turn_and_is_no_error(flow: Flow) -> None:
    ask("p1")
    assert flow.sql(STATUS) == [("paused", None, None, 1)]
    assert flow.sql(WAITS) == [("confirm", "approval", None, True)]
    assert flow.steps() == [("confirm", "waiting")]
    assert {span.status.status_code.name for span in flow.spans} == {"UNSET"}
    [turn] = flow.named("invoke_workflow booking")
    assert turn.attributes is not None
    assert turn.attributes["spanflow.turn.outcome"] == "paused"
    assert turn.attributes["spanflow.engagement.status"] == "paused"


def test_a_resume_answers_it(flow: Flow) -> None:
    ask("p2")
    with spanflow.resume("p2", resolution="approved") as e:
        with spanflow.step("confirm"):
            pass
        with spanflow.step("pay"):
            spanflow.goal("paid")
    assert e.engagement_id == "p2"
    assert flow.sql(STATUS) == [("completed", None, None, 2)]
    assert flow.sql(WAITS) == [("confirm", "approval", "approved", False)]
    assert flow.sql("SELECT name, kind, outcome FROM turns ORDER BY started_at") == [
        ("booking", "new", "paused"),
        ("booking", "resume", "completed"),
    ]
    assert flow.steps() == [
        ("confirm", "waiting"),
        ("confirm", "completed"),
        ("pay", "completed"),
    ]
    # The engagement waited from the turn's end on, which is a moment after the question.
    assert flow.one("SELECT waited_ms FROM waits") >= flow.one("SELECT waiting_ms FROM engagements")
    assert flow.one("SELECT waiting_ms FROM engagements") > 0


def test_an_answer_without_a_word_is_an_answer(flow: Flow) -> None:
    ask("p3", None)
    with spanflow.resume("p3"):
        pass
    assert flow.sql(WAITS) == [("confirm", None, "answered", False)]


@pytest.mark.parametrize("resolution", ["gave_up", "expired"])
def test_an_answer_that_ends_it(flow: Flow, resolution: str) -> None:
    ask("p4")
    with spanflow.resume("p4", resolution=resolution):
        pass
    assert flow.sql(WAITS) == [("confirm", "approval", resolution, False)]
    [(status, _, reason, turns)] = flow.sql(STATUS)
    assert (status, reason, turns) == ("abandoned", resolution, 2)


def test_a_second_answer_is_a_conflict(flow: Flow) -> None:
    ask("p5")
    for answer in ("yes", "no"):
        with spanflow.resume("p5", resolution=answer):
            pass
    assert flow.sql(WAITS) == [("confirm", "approval", "yes", False)]
    assert flow.sql("SELECT kind, resolution FROM turns ORDER BY started_at") == [
        ("new", None),
        ("resume", "yes"),
        ("resume", "conflict"),
    ]


def test_something_new_instead_of_an_answer(flow: Flow) -> None:
    ask("p6")
    with spanflow.engagement("booking", id="p6"), spanflow.step("start over"):
        pass
    assert flow.sql(WAITS) == [("confirm", "approval", "superseded", False)]
    assert flow.sql(STATUS) == [("completed", None, None, 2)]


def test_a_second_pause_is_another_question(flow: Flow) -> None:
    ask("p7", "date")
    with spanflow.resume("p7"), spanflow.step("confirm"):
        spanflow.pause("price")
    assert flow.sql(WAITS) == [
        ("confirm", "date", "answered", False),
        ("confirm", "price", None, True),
    ]
    assert flow.sql(STATUS) == [("paused", None, None, 2)]


def test_silence_after_a_pause_is_abandonment(flow: Flow) -> None:
    ask("p8")
    [row] = flow.sql(
        "SELECT status, dropped_at FROM engagements(as_of := (SELECT max(ended_at) FROM turns)"
        " + INTERVAL 31 MINUTE)"
    )
    assert row == ("abandoned", "confirm")


def test_every_step_around_waits_and_what_ran_beside_it_does_not(flow: Flow) -> None:
    with spanflow.engagement("booking", id="p9") as e:
        beside = spanflow.step("beside")
        beside.begin()
        with spanflow.step("outer"), spanflow.step("inner"):
            spanflow.pause("approval")
            assert guard.counts() == {}
            with spanflow.step("too late"):
                spanflow.log("too late")
        beside.end()
    assert e.turn_id is not None
    assert flow.sql("SELECT path, status FROM steps ORDER BY path") == [
        ("beside", "cancelled"),
        ("outer", "waiting"),
        ("outer/inner", "waiting"),
    ]
    assert flow.sql("SELECT path FROM waits") == [("outer/inner",)]
    assert flow.sql("SELECT * FROM events WHERE kind = 'log'") == []
    assert set(guard.counts()) == {"api.step", "api.log"}  # told, and dropped


def test_a_pause_where_no_step_is_open(flow: Flow) -> None:
    with spanflow.engagement("booking", id="p10"):
        with spanflow.step("ask"):
            pass
        spanflow.pause("approval")
    assert flow.sql("SELECT label, step_name, is_open FROM waits") == [("approval", "ask", True)]
    assert flow.steps() == [("ask", "completed")]
    with spanflow.resume("p10"):
        pass
    assert flow.one("SELECT resolution FROM waits") == "answered"


def test_a_pause_of_another_by_its_id(flow: Flow) -> None:
    with spanflow.engagement("x", id="px"), spanflow.step("asks") as asks:
        with spanflow.engagement("y", id="py"), spanflow.step("answers"):
            spanflow.pause("from afar", step_id=asks.step_id)
        with spanflow.engagement("z", id="pz"), spanflow.step("own"):
            spanflow.pause("own", engagement_id="pz")
            spanflow.pause("again", engagement_id="pz")
    assert flow.sql("SELECT engagement_id, status FROM engagements ORDER BY ALL") == [
        ("px", "paused"),
        ("py", "completed"),
        ("pz", "paused"),
    ]
    assert flow.sql("SELECT engagement_id, path, label FROM waits ORDER BY ALL") == [
        ("px", "asks", "from afar"),
        ("pz", "own", "own"),
    ]
    assert guard.counts() == {"api.pause": 1}


@pytest.mark.parametrize("payload", [{"card": 1}, None, "エ\0", [1, {"a": None}], float("nan")])
def test_the_question_is_kept_where_content_is(
    flow: Flow, payload: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "SPAN_ONLY")
    with spanflow.engagement("booking", id="p11"), spanflow.step("confirm"):
        spanflow.pause("approval", payload)
    kept = flow.one("SELECT payload FROM waits")
    if payload != payload:  # noqa: PLR0124 - a number that is none
        payload = None
    assert (json.loads(kept) if kept is not None else None) == payload


def test_a_question_without_content_capture_is_its_label_alone(flow: Flow) -> None:
    ask("p12", "approval", card="4111 1111")
    assert flow.one("SELECT payload FROM waits") is None
    assert b"4111" not in b"".join(
        path.read_bytes() for path in flow.ledger.parent.rglob("*") if path.is_file()
    )
    assert "4111" not in str([span.to_json() for span in flow.spans])


PROGRAM = """
import spanflow
spanflow.configure(ledger={ledger!r}, ingest="off", goals=["paid"])
"""
ASKS = """
with spanflow.engagement("booking", id="crossing", user_id="ada"):
    with spanflow.step("qualify"):
        spanflow.llm_call("m", input_tokens=20, output_tokens=10)
        spanflow.pause("approval", {{"price": 95}})
"""
ANSWERS = """
with spanflow.resume("crossing", name="booking", resolution="approved") as e:
    with spanflow.step("qualify"):
        spanflow.llm_call("m", input_tokens=20, output_tokens=10)
    with spanflow.step("paid"):
        pass
print(e.engagement_id)
"""


def run(ledger: Path, code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", (PROGRAM + code).format(ledger=str(ledger))],
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
        env={**os.environ, "OTEL_TRACES_EXPORTER": "none"},
    )
    assert done.stderr == ""
    return done.stdout


def test_another_process_resumes(flow: Flow) -> None:
    run(flow.ledger, ASKS)
    assert flow.sql("SELECT status, goal FROM engagements") == [("paused", None)]
    assert run(flow.ledger, ANSWERS) == "crossing\n"
    assert flow.sql(
        "SELECT name, user_id, status, goal, turns, steps, total_tokens FROM engagements"
    ) == [("booking", "ada", "completed", "paid", 2, 3, 60)]
    assert flow.sql(WAITS) == [("qualify", "approval", "approved", False)]
    assert flow.one("SELECT count(DISTINCT process_id) FROM turns") == 2
    assert flow.sql("SELECT kind FROM turns ORDER BY started_at") == [("new",), ("resume",)]


def raises(*_: Any) -> None:
    with pytest.raises(spanflow.PauseInGraphError, match=r"interrupt\(\) from langgraph\.types"):
        spanflow.pause("approval")


def test_inside_a_node_it_names_what_pauses_a_graph(flow: Flow) -> None:
    def node(state: State) -> State:
        raises()
        with spanflow.step("inner"):
            raises()
        return {"log": ["x"]}

    assert chain("a", a=node).invoke({"log": []}) == {"log": ["x"]}
    builder = StateGraph(State)
    builder.add_node("sub", chain("deep", deep=node))
    builder.add_edge(START, "sub")
    builder.compile().invoke({"log": []})
    with spanflow.engagement("desk", id="p13"):
        chain("a", a=node).invoke({"log": []})
    assert flow.sql("SELECT status FROM engagements") == [("completed",)] * 3
    assert flow.sql("SELECT * FROM waits") == []


def test_inside_a_functional_graph_too(flow: Flow) -> None:
    @task
    def work() -> int:
        raises()
        return 1

    @entrypoint()
    def flow_of_tasks(given: Any) -> int:
        raises()
        return work().result()

    assert flow_of_tasks.invoke(1) == 1


def test_an_error_for_pausing_a_graph_fails_the_node_once(flow: Flow) -> None:
    def node(state: State) -> State:
        spanflow.pause()
        raise AssertionError

    with pytest.raises(spanflow.PauseInGraphError):
        chain("a", a=node).invoke({"log": []})
    assert flow.sql("SELECT status, attempts, error_type FROM steps") == [
        ("failed", 1, "PauseInGraphError")
    ]


def test_an_interrupt_that_passes_through_a_step(flow: Flow) -> None:
    """LangGraph's own pause, asked inside a block of ours: the block waits as its node does."""

    def node(state: State) -> State:
        with spanflow.step("look"), spanflow.agent("planner"), spanflow.tool_call("ask"):
            answer = interrupt({"awaiting": "a yes"})
        return {"log": [answer]}

    app = chain("confirm", confirm=node)
    app.checkpointer = InMemorySaver()
    config: Any = {"configurable": {"thread_id": "t"}}
    app.invoke({"log": []}, config)
    assert flow.sql("SELECT path, label, is_open FROM waits") == [("confirm", "a yes", True)]
    app.invoke(Command(resume="yes"), config)
    assert flow.steps() == [
        ("confirm", "waiting"),
        ("confirm/look", "waiting"),
        ("confirm", "completed"),
        ("confirm/look", "completed"),
    ]
    assert flow.sql("SELECT status FROM engagements") == [("completed",)]
    assert flow.sql("SELECT status FROM tool_calls ORDER BY started_at") == [
        ("waiting",),
        ("ok",),
    ]
    # Run again from its beginning, a node's inner steps are the same visits.
    assert flow.one("SELECT count(DISTINCT execution_id) FROM steps WHERE name = 'look'") == 1
    assert {span.status.status_code.name for span in flow.spans} == {"UNSET"}


def test_outside_everything_nothing_waits(flow: Flow) -> None:
    spanflow.pause("approval")
    assert guard.counts() == {"api.pause": 1}
    assert flow.spans == []
    assert not flow.ledger.exists()


def test_a_pause_that_cannot_be_made_stops_nobody(
    flow: Flow, monkeypatch: pytest.MonkeyPatch
) -> None:
    guard.set_strict(False)

    def broken(*_: Any) -> str:
        raise RuntimeError

    monkeypatch.setattr("spanflow.capture.content.captures_content", broken)
    ask("p14")
    assert guard.counts() == {"api.pause": 1}
    assert flow.one("SELECT status FROM engagements") == "completed"


def test_goals_of_an_engagement_hold_in_its_later_turns(flow: Flow) -> None:
    with spanflow.engagement("booking", id="p16", goals=["paid"]), spanflow.step("confirm"):
        spanflow.pause("approval")
    with spanflow.resume("p16"), spanflow.step("look"):
        spanflow.pause("approval")
    with spanflow.engagement("booking", id="p16"), spanflow.step("paid"):
        pass
    assert flow.sql("SELECT status, goal FROM engagements") == [("completed", "paid")]
    assert flow.sql("SELECT DISTINCT goals FROM turns") == [(["paid"],)]


def test_another_process_is_told_the_goals_again(flow: Flow) -> None:
    with spanflow.resume("elsewhere", name="booking", goals=["paid"]), spanflow.step("look"):
        pass
    assert flow.sql("SELECT name, status, dropped_at FROM engagements") == [
        ("booking", "abandoned", "look")
    ]


def test_goals_are_judged_at_the_end_and_not_at_a_pause(flow_with: Callable[..., Flow]) -> None:
    flow = flow_with(goals=["paid"])
    ask("p15")
    assert flow.sql(STATUS) == [("paused", None, None, 1)]
    with spanflow.resume("p15"), spanflow.step("leave"):
        pass
    assert flow.sql(STATUS) == [("abandoned", "leave", "left", 2)]
