"""Two hundred turns on one thread: what they cost the thread, its checkpoints and its user."""

from __future__ import annotations

import sqlite3
import statistics
import time
from typing import TYPE_CHECKING, Any

import pytest
from graphs import calling, chain, llm
from journeys.apps.approval import counting
from langgraph.checkpoint.sqlite import SqliteSaver

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Flow

TURNS = 201
"""The first one and two hundred more."""
MOST_BYTES = 250
THREAD: Any = {"configurable": {"thread_id": "t"}}


def talk(file: Path, reads: list[str]) -> list[float]:
    """Hold the conversation, and return the processor's time of each turn, in milliseconds."""
    app = chain("answer", answer=calling(llm(20, 10)))
    took = []
    with counting(SqliteSaver, reads).from_conn_string(str(file)) as saver:
        app = app.copy(update={"checkpointer": saver})
        for number in range(TURNS):
            began = time.process_time()
            app.invoke({"log": [number]}, THREAD, durability="sync")
            took.append((time.process_time() - began) * 1e3)
    return took


def saved(file: Path) -> tuple[list[int], bytes]:
    """Return how many bytes of metadata each checkpoint has, in order; and all else there is."""
    with sqlite3.connect(file) as connection:
        rows = connection.execute(
            "SELECT length(metadata), checkpoint FROM checkpoints ORDER BY checkpoint_id"
        ).fetchall()
        writes = connection.execute(
            "SELECT task_id || channel || type, value FROM writes"
        ).fetchall()
    rest = [checkpoint for _, checkpoint in rows]
    rest += [part for name, value in writes for part in (name.encode(), value)]
    return [size for size, _ in rows], b"".join(rest)


@pytest.mark.slow
def test_two_hundred_turns_on_one_thread(flow_with: Callable[..., Flow], tmp_path: Path) -> None:
    without = talk(tmp_path / "without.db", [])
    flow = flow_with()
    reads: list[str] = []
    took = talk(tmp_path / "with.db", reads)

    assert flow.sql("SELECT turns, llm_calls, total_tokens, status FROM engagements") == [
        (TURNS, TURNS, 6_030, "completed")
    ]
    assert flow.sql("SELECT kind, count(*) FROM turns GROUP BY kind ORDER BY 2") == [
        ("new", 1),
        ("message", TURNS - 1),
    ]
    assert flow.one("SELECT count(DISTINCT previous_turn_id) FROM turns") == TURNS - 1

    assert len(reads) <= 1  # of the first turn, on a thread this worker has not seen

    bare, _ = saved(tmp_path / "without.db")
    ours, rest = saved(tmp_path / "with.db")
    assert len(ours) == len(bare) > TURNS
    added = {more - less for more, less in zip(ours, bare, strict=True)}
    assert len(added) == 1, added
    assert 0 < added.pop() <= MOST_BYTES
    assert flow.one("SELECT engagement_id FROM engagements").encode() not in rest
    assert b"spanflow" not in rest

    # Wide, for a busy machine: a cost that grew with the turns would be a hundred times as high.
    early = statistics.median(took[2:40]) - statistics.median(without[2:40])
    late = statistics.median(took[-38:]) - statistics.median(without[-38:])
    assert late <= 4 * max(early, 0.5)
