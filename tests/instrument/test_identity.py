"""Which runs are one engagement, in one process and in two."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING, Any

import pytest
from graphs import State, chain
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.types import Command, interrupt

from spanflow.capture import lineage

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Flow


def pausing(saver: Any) -> Any:
    def qualify(state: State) -> State:
        answer = interrupt({"awaiting": "confirm"})
        return {"log": [answer]}

    builder = StateGraph(State)
    builder.add_node("qualify", qualify)
    builder.add_node("answer", lambda state: {"log": ["answer"]})
    builder.add_edge(START, "qualify")
    builder.add_edge("qualify", "answer")
    return builder.compile(checkpointer=saver)


def forget() -> None:
    """Make the next turn read its checkpoint, as another worker would."""
    lineage.forget()


def kinds(flow: Flow) -> list[str]:
    """What capture took each turn for, by start."""
    return [
        kind
        for (kind,) in flow.sql(
            "SELECT turn_kind FROM records WHERE kind = 'turn' ORDER BY started_ns"
        )
    ]


def told(flow: Flow) -> list[tuple[Any, Any]]:
    """Answers and resolution of each turn, by start."""
    return [
        (answers, resolution)
        for answers, resolution in flow.sql(
            "SELECT answers::VARCHAR, resolution FROM records "
            "WHERE kind = 'turn' ORDER BY started_ns"
        )
    ]


def on(thread: str, **more: Any) -> Any:
    return {"configurable": {"thread_id": thread, **more}}


def test_a_pause_is_a_waiting_step_and_the_resume_the_same_engagement(flow: Flow) -> None:
    app = pausing(InMemorySaver())
    result = app.invoke({"log": []}, on("t"))
    assert "__interrupt__" in result
    assert flow.sql("SELECT status FROM engagements") == [("paused",)]
    assert flow.sql("SELECT outcome FROM turns") == [("paused",)]
    app.invoke(Command(resume={"confirm": True}), on("t"))
    assert flow.sql("SELECT status, turns, errors FROM engagements") == [("completed", 2, 0)]
    assert flow.steps() == [
        ("qualify", "waiting"),
        ("qualify", "completed"),
        ("answer", "completed"),
    ]
    assert flow.sql("SELECT kind FROM turns ORDER BY started_at") == [("new",), ("resume",)]
    first, second = (s for s in flow.spans if s.name.startswith("invoke_workflow"))
    assert first.context is not None
    assert [link.context.span_id for link in second.links] == [first.context.span_id]
    waiting = flow.named("step qualify")[0]
    assert waiting.status.status_code.name == "UNSET"
    assert [e.name for e in waiting.events] == ["wait"]


def test_a_static_breakpoint_pauses_the_turn(flow: Flow) -> None:
    app = chain("a", "b")
    app.checkpointer = InMemorySaver()
    app.invoke({"log": []}, on("t"), interrupt_before=["b"])
    assert flow.sql("SELECT outcome FROM turns") == [("paused",)]
    app.invoke(None, on("t"))
    assert flow.sql("SELECT status, turns FROM engagements") == [("completed", 2)]


def test_leaving_a_stream_at_its_interrupt_is_a_pause(flow: Flow) -> None:
    for chunk in pausing(InMemorySaver()).stream({"log": []}, on("t")):
        if "__interrupt__" in chunk:
            break
    assert flow.sql("SELECT outcome FROM turns") == [("paused",)]


async def test_pausing_asynchronously(flow: Flow) -> None:
    app = pausing(InMemorySaver())
    await app.ainvoke({"log": []}, on("t"))
    await app.ainvoke(Command(resume="yes"), on("t"))
    assert flow.sql("SELECT status, turns, steps FROM engagements") == [("completed", 2, 3)]


def test_two_runs_without_a_checkpointer_are_two_engagements(flow: Flow) -> None:
    app = chain("a")
    app.invoke({"log": []}, on("1"))
    app.invoke({"log": []}, on("1"))
    assert flow.sql("SELECT count(*), count(DISTINCT conversation_id) FROM engagements") == [(2, 1)]
    assert "gen_ai.conversation.id" in (flow.spans[-1].attributes or {})


def test_a_conversation_id_is_never_invented(flow: Flow) -> None:
    chain("a").invoke({"log": []})
    assert flow.one("SELECT conversation_id FROM engagements") is None
    assert not any("gen_ai.conversation.id" in (s.attributes or {}) for s in flow.spans)


def test_messages_on_one_thread_are_one_engagement(flow: Flow) -> None:
    app = chain("a")
    app.checkpointer = InMemorySaver()
    for _ in range(3):
        app.invoke({"log": []}, on("t"))
    app.invoke({"log": []}, on("other"))
    assert flow.sql("SELECT turns FROM engagements ORDER BY turns") == [(1,), (3,)]


def test_the_same_thread_of_another_saver_is_another_engagement(flow: Flow) -> None:
    for _ in range(2):
        app = chain("a")
        app.checkpointer = InMemorySaver()
        app.invoke({"log": []}, on("1"))
    assert flow.one("SELECT count(*) FROM engagements") == 2


def test_an_explicit_id_wins_and_stays_with_the_thread(flow: Flow) -> None:
    app = chain("a")
    app.checkpointer = InMemorySaver()
    app.invoke({"log": []}, {**on("t"), "metadata": {"spanflow_engagement_id": "mine"}})
    app.invoke({"log": []}, on("t"))
    assert flow.sql("SELECT engagement_id, turns FROM engagements") == [("mine", 2)]


def test_an_updated_state_keeps_the_engagement(flow: Flow) -> None:
    """update_state drops our scalar on the head; it is found on the parent."""
    app = pausing(InMemorySaver())
    app.invoke({"log": []}, on("t"))
    app.update_state(on("t"), {"log": ["edited"]})
    forget()
    app.invoke(Command(resume="yes"), on("t"))
    assert flow.one("SELECT count(*) FROM engagements") == 1


def test_the_users_config_is_never_changed(flow: Flow) -> None:
    app = chain("a")
    app.checkpointer = InMemorySaver()
    config = on("t")
    before = {"configurable": {"thread_id": "t"}}
    app.invoke({"log": []}, config)
    list(app.stream({"log": []}, config=config))
    assert config == before


def test_a_missing_thread_id_raises_what_it_would_without_us(flow: Flow) -> None:
    app = chain("a")
    app.checkpointer = InMemorySaver()
    with pytest.raises(ValueError, match="thread_id"):
        app.invoke({"log": []})


def test_ours_in_a_checkpoint_is_short_and_constant(flow: Flow) -> None:
    app = chain("a")
    saver = app.checkpointer = InMemorySaver()
    sizes: set[int] = set()
    for _ in range(20):
        app.invoke({"log": []}, on("t"))
        found = saver.get_tuple(on("t"))
        assert found is not None
        ours = {k: v for k, v in found.metadata.items() if "spanflow" in k}
        assert list(ours) == ["spanflow_engagement"]
        sizes.add(len(str(ours)))
    assert len(sizes) == 1
    assert sizes.pop() <= 250


def test_the_next_turn_on_this_worker_reads_nothing_more(flow: Flow) -> None:
    reads: list[Any] = []

    class Counting(InMemorySaver):
        def get_tuple(self, config: Any) -> Any:
            reads.append(config)
            return super().get_tuple(config)

    app = chain("a")
    app.checkpointer = Counting()
    counts = []
    for _ in range(3):
        reads.clear()
        app.invoke({"log": []}, on("t"))
        counts.append(len(reads))
    assert counts == [
        2,
        1,
        1,
    ]  # the first turn of a thread here asks once more than LangGraph itself


def head_bytes(saver: Any, thread: str = "t") -> int:
    """Bytes of ours in a thread's newest checkpoint, as JSON."""
    ours = {"spanflow_engagement": saver.get_tuple(on(thread)).metadata["spanflow_engagement"]}
    return len(json.dumps(ours, ensure_ascii=False).encode()) - 2


@pytest.mark.parametrize(
    "given", ["x" * 128, "x" * 5_000, "\N{GRINNING FACE}" * 128, "a\0b", "a|b|c", "\ud800", 7, " "]
)
def test_whatever_the_explicit_id_it_fits_and_is_read_back(flow: Flow, given: Any) -> None:
    app = chain("a")
    saver = app.checkpointer = InMemorySaver()
    app.invoke({"log": []}, {**on("t"), "metadata": {"spanflow_engagement_id": given}})
    assert head_bytes(saver) <= 250
    forget()
    app.invoke({"log": []}, on("t"))
    app.invoke({"log": []}, {**on("u"), "metadata": {"spanflow_engagement_id": given}})
    assert flow.sql("SELECT turns FROM engagements") == [(3,)]


def test_long_explicit_ids_are_still_told_apart(flow: Flow) -> None:
    for last in "12":
        metadata = {"spanflow_engagement_id": "x" * 500 + last}
        chain("a").invoke({"log": []}, {"metadata": metadata})
    assert flow.one("SELECT count(*) FROM engagements") == 2


# -- what a turn without input is ------------------------------------------------------------------


def failing_once(saver: Any, error: BaseException) -> Any:
    errors = [error]

    def fails(state: State) -> State:
        if errors:
            raise errors.pop()
        return {"log": ["b"]}

    app = chain("a", "b", b=fails)
    app.checkpointer = saver
    return app


@pytest.mark.parametrize("elsewhere", [False, True])
def test_going_on_after_a_failure_is_a_retry(flow: Flow, elsewhere: bool) -> None:
    app = failing_once(InMemorySaver(), ValueError("no"))
    with pytest.raises(ValueError, match="no"):
        app.invoke({"log": []}, on("t"))
    if elsewhere:
        forget()
    app.invoke(None, on("t"))
    assert kinds(flow) == ["new", "retry"]


def test_going_on_after_a_cancellation_is_a_retry(flow: Flow) -> None:
    app = failing_once(InMemorySaver(), KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        app.invoke({"log": []}, on("t"))
    app.invoke(None, on("t"))
    assert kinds(flow) == ["new", "retry"]


def test_going_on_where_a_stream_was_left_is_a_retry(flow: Flow) -> None:
    app = chain("a", "b")
    app.checkpointer = InMemorySaver()
    stream = app.stream({"log": []}, on("t"))
    next(stream)
    stream.close()
    app.invoke(None, on("t"))
    assert kinds(flow) == ["new", "retry"]


@pytest.mark.parametrize("elsewhere", [False, True])
def test_going_on_at_a_breakpoint_is_a_resume(flow: Flow, elsewhere: bool) -> None:
    app = chain("a", "b")
    app.checkpointer = InMemorySaver()
    app.invoke({"log": []}, on("t"), interrupt_before=["b"])
    if elsewhere:
        forget()
    app.invoke(None, on("t"))
    assert kinds(flow) == ["new", "resume"]
    assert told(flow) == [(None, None), (None, None)]


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_command_goes_on_where_something_waits_and_else_is_a_message(
    flow: Flow, elsewhere: bool
) -> None:
    app = pausing(InMemorySaver())
    app.invoke({"log": []}, on("t"))
    for command in (
        Command(update={"log": ["more"]}),
        Command(resume="yes"),
        Command(goto="answer"),
    ):
        if elsewhere:
            forget()
        app.invoke(command, on("t"))
    assert kinds(flow) == ["new", "resume", "resume", "message"]
    assert told(flow)[1:] == [(None, None), ('["*"]', None), (None, None)]


# -- answers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [[], "", 0, False, "yes", {"confirm": True}, {"a" * 31: 1}])
def test_every_answer_arrives_as_it_was_given(flow: Flow, value: Any) -> None:
    app = pausing(InMemorySaver())
    app.invoke({"log": []}, on("t"))
    [got, _] = app.invoke(Command(resume=value), on("t"))["log"]
    assert (got, type(got)) == (value, type(value))
    assert told(flow)[1] == ('["*"]', None)


def test_an_empty_map_answers_nothing(flow: Flow) -> None:
    """To LangGraph it is a map of answers with none in it: the question is asked again."""
    app = pausing(InMemorySaver())
    app.invoke({"log": []}, on("t"))
    assert "__interrupt__" in app.invoke(Command(resume={}), on("t"))
    assert kinds(flow) == ["new", "resume"]
    assert told(flow)[1] == (None, None)


def test_answers_by_id_are_told_by_id(flow: Flow) -> None:
    app = pausing(InMemorySaver())
    [asked] = app.invoke({"log": []}, on("t"))["__interrupt__"]
    app.invoke(Command(resume={asked.id: "yes"}), on("t"))
    assert told(flow)[1] == (f'["{asked.id}"]', None)
    resumed = flow.spans[-1].attributes or {}
    assert resumed["spanflow.turn.answers"] == (asked.id,)


def test_the_app_says_how_it_was_resolved(flow: Flow) -> None:
    app = pausing(InMemorySaver())
    app.invoke({"log": []}, {**on("t"), "metadata": {"spanflow_resolution": "none yet"}})
    metadata = {"spanflow_resolution": "expired" + "!" * 100, "channel": "mail"}
    app.invoke(Command(resume="too late"), {**on("t"), "metadata": metadata})
    assert told(flow) == [(None, None), ('["*"]', ("expired" + "!" * 100)[:64])]
    assert flow.one("SELECT metadata::VARCHAR FROM engagements") == '{"channel":"mail"}'


# -- two processes ---------------------------------------------------------------------------------


SCRIPT = textwrap.dedent(
    """
    import sys
    import spanflow
    from langgraph.checkpoint.sqlite import SqliteSaver
    from langgraph.types import Command
    sys.path[:0] = [{tests!r}]
    from instrument.test_identity import on, pausing
    spanflow.configure(ledger={ledger!r})
    with SqliteSaver.from_conn_string({saver!r}) as saver:
        app = pausing(saver)
        app.invoke({value}, on("t"))
    """
)


def test_a_resume_in_another_process_is_the_same_engagement(flow: Flow, tmp_path: Path) -> None:
    from pathlib import Path as Folder

    tests = str(Folder(__file__).parents[1])
    for value in ('{"log": []}', "Command(resume=True)"):
        script = SCRIPT.format(
            tests=tests, ledger=str(flow.ledger), saver=str(tmp_path / "saver.db"), value=value
        )
        subprocess.run([sys.executable, "-c", script], check=True, timeout=240)
    assert flow.sql("SELECT status, turns, steps FROM engagements") == [("completed", 2, 3)]
    assert flow.one("SELECT count(DISTINCT process_id) FROM spans WHERE kind = 'turn'") == 2
    [(previous, first)] = flow.sql(
        "SELECT max(previous_turn_id), min_by(turn_id, started_at) FROM turns"
    )
    assert previous == first
    assert kinds(flow) == ["new", "resume"]
    [(link,)] = flow.sql("SELECT links[0] FROM records WHERE turn_kind = 'resume'")
    assert (json.loads(link)["span_id"], json.loads(link)["kind"]) == (first, "previous_turn")
