"""Which runs are one engagement, in one process and in two."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING, Any

import pytest
from graphs import State, chain
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.types import Command, interrupt

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
    from spanflow.capture import lineage

    app = pausing(InMemorySaver())
    app.invoke({"log": []}, on("t"))
    app.update_state(on("t"), {"log": ["edited"]})
    lineage._cache.clear()  # noqa: SLF001 - as on a worker that has not seen the thread
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
        subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
    assert flow.sql("SELECT status, turns, steps FROM engagements") == [("completed", 2, 3)]
    assert flow.one("SELECT count(DISTINCT process_id) FROM spans WHERE kind = 'turn'") == 2
    [(previous, first)] = flow.sql(
        "SELECT max(previous_turn_id), min_by(turn_id, started_at) FROM turns"
    )
    assert previous == first
