"""A process that has run very many steps holds no more than one that has run a few."""

from __future__ import annotations

import gc
import sys
from typing import TYPE_CHECKING

import psutil
import pytest
from graphs import State
from langgraph.graph import END, START, StateGraph

from spanflow.capture import lineage
from spanflow.capture import scope as scopes
from spanflow.capture.identity import GraphShape, Identity
from spanflow.capture.runtime import Runtime
from spanflow.capture.turn import Turn
from spanflow.instrument.calls import places
from spanflow.ledger.journal import journal_for
from spanflow.settings import Settings
from spanflow.spending import Call, Usage

if TYPE_CHECKING:
    from conftest import Flow

STEPS = 100_000
STEPS_A_TURN = 50
OF_A_GRAPH = 5_000
MARGIN_BLOCKS = 20_000
"""A quarter of an object for each step that follows the first reading."""
MARGIN_BYTES = 32 * 1024 * 1024


class Held:
    """What this process holds at a moment: living objects, and resident memory."""

    def __init__(self) -> None:
        gc.collect()
        self.blocks = sys.getallocatedblocks()
        self.bytes = psutil.Process().memory_info().rss

    def has_not_grown_since(self, early: Held, margin_blocks: int) -> None:
        assert self.blocks - early.blocks < margin_blocks
        assert self.bytes - early.bytes < MARGIN_BYTES


def turn_of_steps(runtime: Runtime, number: int) -> None:
    """One engagement of many steps, each with a call, the last one left open."""
    turn = Turn(runtime, SHAPE, Identity(f"engagement-{number}", "soak", "new"))
    for place in range(STEPS_A_TURN):
        step = turn.start_step("it", f"{number}-{place}", superstep=place)
        started = step.started_ns
        call = Call(
            f"{place:016x}", step.span_id, "spanflow", step.span_id, "m", None, started, started,
            Usage.of(input_tokens=1, output_tokens=1),
        )  # fmt: skip
        step.calls.add(call)
        if place == 7:
            step.fail_attempt("failed", OSError("down"))
        elif place < STEPS_A_TURN - 1:
            step.end("completed")
    turn.close("completed")


SHAPE = GraphShape("0123456789abcdef", "soak", paths=("it",))


@pytest.mark.slow
def test_memory_does_not_grow_with_steps_already_ended(flow: Flow) -> None:
    runtime = Runtime(Settings(), journal_for(flow.ledger), "1")
    turns = STEPS // STEPS_A_TURN
    for number in range(turns):
        turn_of_steps(runtime, number)
        flow.exporter.clear()
        if number == turns // 5:
            early = Held()
    Held().has_not_grown_since(early, MARGIN_BLOCKS)
    assert not dict(scopes.turns)
    assert flow.one("SELECT count(*) FROM steps") == STEPS
    assert flow.sql("SELECT count(*), sum(errors) FROM turns") == [(turns, turns)]


@pytest.mark.slow
def test_a_real_graph_leaves_nothing_behind(flow: Flow) -> None:
    builder = StateGraph(State)
    builder.add_node("it", lambda state: {"log": ["x"]})
    builder.add_edge(START, "it")
    builder.add_conditional_edges("it", lambda s: "it" if len(s["log"]) < 50 else END)
    app = builder.compile()
    threads = dict(lineage._cache)  # noqa: SLF001 - what other tests still hold
    for number in range(OF_A_GRAPH // 50):
        app.invoke({"log": []}, {"recursion_limit": 100})
        flow.exporter.clear()
        if number == OF_A_GRAPH // 250:
            early = Held()
    Held().has_not_grown_since(early, OF_A_GRAPH // 5)
    assert not places
    assert not dict(scopes.turns)
    assert dict(lineage._cache) == threads  # noqa: SLF001 - nothing was added to the map itself
    assert flow.one("SELECT count(*) FROM steps") == OF_A_GRAPH
