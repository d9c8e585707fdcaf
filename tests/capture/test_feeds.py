"""The same rows whoever tells them: journal, exporter, OTLP file, other ledger, in any order."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any

import duckdb
import pytest
from feeds import captured, exported, filed, rows
from graphs import FakeLLM, State, calling, chain, llm
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, RetryPolicy, interrupt
from opentelemetry import trace

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Flow

# A failing case is short already, and each costs a ledger.
SOME = settings(
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


@tool
def lookup(area: str) -> str:
    """Look an area up."""
    return f"3 rooms in {area}"


@tool
def broken(area: str) -> str:
    """Fail to look an area up."""
    raise ValueError(area)


def booking() -> Any:
    """A graph in which nearly everything happens that the ledger has a column for."""
    others = trace.get_tracer("openinference.instrumentation.other")
    attempts = itertools.count()

    def intake(state: State) -> State:
        details = {"input_token_details": {"cache_read": 5, "cache_creation": 2}}
        llm(30, 10, output_token_details={"reasoning": 3}, **details).invoke("a")
        list(llm(5, 6).stream("b"))
        with others.start_as_current_span("mine") as mine:
            mine.add_event("noticed", {"rooms": 3})
        spent = {"llm.token_count.prompt": 7, "llm.token_count.completion": 8}
        with others.start_as_current_span(
            "ChatOther",
            attributes={"openinference.span.kind": "LLM", "llm.model_name": "m2", **spent},
        ):
            pass
        lookup.invoke({"area": "Shibuya"})
        with pytest.raises(ValueError, match="Shibuya"):
            broken.invoke({"area": "Shibuya"})
        return {"log": ["intake"]}

    def flaky(state: State) -> State:
        llm(2, 2).invoke("try")
        if next(attempts) < 2:
            raise OSError(110, "down")
        return {"log": ["flaky"]}

    builder = StateGraph(State)
    builder.add_node("intake", intake)
    patience = RetryPolicy(initial_interval=0.001, max_attempts=3, retry_on=OSError)
    builder.add_node("flaky", flaky, retry_policy=patience)
    builder.add_node("search", chain("s1", "s2", s1=calling(llm(3, 4))))
    builder.add_node("escalate", lambda state: {"log": ["escalate"]})
    builder.add_node("ask", lambda state: {"log": [interrupt({"awaiting": "a yes"})]})
    builder.add_node("submitted", lambda state: {"log": ["submitted"]})
    names = ["intake", "flaky", "search", "escalate", "ask", "submitted"]
    for source, target in itertools.pairwise([START, *names, END]):
        builder.add_edge(source, target)
    return builder.compile(checkpointer=InMemorySaver(), name="booking")


def run_everything() -> None:
    """One engagement of two turns, one that fails, one that is left, one without a turn at all."""
    metadata = {
        "user_id": "u1",
        "session_id": "s1",
        "tier": {"mixed": [1, "1", True, None, "エ"]},
        "spanflow_step_tools": {"intake": ["lookup", "broken"]},
    }
    app = booking()
    config: Any = {"configurable": {"thread_id": "t"}, "metadata": metadata}
    app.invoke({"log": []}, config)
    app.invoke(Command(resume="yes"), config)

    def boom(state: State) -> State:
        llm(1, 1).invoke("x")
        msg = "boom détail"
        raise ValueError(msg)

    with pytest.raises(ValueError, match="boom"):
        chain("a", "boom", boom=boom).invoke({"log": []})
    for _ in chain("a", "b").stream({"log": []}):
        break
    llm(4, 4).invoke("outside of any graph")


def ledger_of(folder: Path, *feeds: bytes) -> Path:
    """A ledger of its own that these feeds have made."""
    folder.mkdir()
    rows(folder, feeds)
    [ledger] = folder.glob("*.duckdb")
    return ledger


@pytest.fixture
def feeds(flow_with: Callable[..., Flow], tmp_path: Path) -> dict[str, bytes]:
    """One run as its journal, as an export, and as another of its spans backwards, bit by bit."""
    flow = flow_with(goals=["submitted"], global_steps=["escalate"])
    run_everything()
    journal = captured(flow)
    spans = flow.spans
    backwards = [spans[::-1][first : first + 5] for first in range(0, len(spans), 5)]
    return {
        "journal": journal,
        "export": exported(tmp_path / "export.duckdb", [spans]),
        "again": exported(tmp_path / "again.duckdb", backwards),
        "file": filed(tmp_path / "file.duckdb", backwards),
    }


def test_any_feeds_in_any_order_give_the_same_rows(feeds: dict[str, bytes], tmp_path: Path) -> None:
    expected = rows(tmp_path / "fresh", [feeds["journal"]])
    assert {
        view: len(found) for view, found in expected.items() if view not in ("spans", "records")
    } == {
        "engagements": 3,
        "turns": 4,
        "steps": 12,
        "llm_calls": 9,
        "tool_calls": 2,
        "events": 17,
        "waits": 1,
        "transitions": 7,
    }

    # Other ledgers: one that knows all from capture, one that knows the half and from two feeds.
    export = feeds["export"].splitlines(keepends=True)
    told: dict[str, bytes | Path] = {
        **feeds,
        "ledger": ledger_of(tmp_path / "other", feeds["journal"]),
        "half": ledger_of(tmp_path / "half", b"".join(export[::2]), feeds["file"]),
    }

    @settings(SOME, max_examples=10)
    @given(
        order=st.lists(st.sampled_from(sorted(told)), min_size=1, max_size=4),
        at_once=st.booleans(),
    )
    @example(order=["export"], at_once=False)
    @example(order=["file"], at_once=False)
    @example(order=["ledger"], at_once=False)
    @example(order=["half", "journal"], at_once=False)
    @example(order=["journal", "half", "file"], at_once=False)
    @example(order=["export", "journal"], at_once=False)
    @example(order=["journal", "export"], at_once=False)
    @example(order=["again", "export", "journal", "again"], at_once=True)
    def same(order: list[str], at_once: bool) -> None:
        found = rows(tmp_path / "fresh", [told[name] for name in order], at_once=at_once)
        for view, wanted in expected.items():
            assert found[view] == wanted, view

    same()


@settings(SOME, max_examples=5)
@given(
    which=st.sampled_from(["journal", "export"]),
    kept=st.sets(st.integers(0, 60), max_size=30),
    torn_first=st.booleans(),
)
def test_a_torn_feed_is_mended_by_any_whole_one(
    feeds: dict[str, bytes], tmp_path: Path, which: str, kept: set[int], torn_first: bool
) -> None:
    """A part of one feed and the whole of another are the whole, whichever comes first."""
    lines = feeds[which].splitlines(keepends=True)
    part = b"".join(line for number, line in enumerate(lines) if number in kept)
    order = [part, feeds["again"]] if torn_first else [feeds["again"], part]
    assert rows(tmp_path / "torn", order) == rows(tmp_path / "torn", [feeds["journal"]])


def test_what_a_span_is_too_small_for_stays_in_the_journal(flow: Flow, tmp_path: Path) -> None:
    """Long stacks, messages and metadata, and which attempt failed: only capture knows."""

    def boom(state: State) -> State:
        raise ValueError("x" * 3_000)

    with pytest.raises(ValueError, match="xxx"):
        chain("boom", boom=boom).invoke({"log": []}, {"metadata": {"big": "y" * 3_000}})
    journal, export = captured(flow), exported(tmp_path / "export.duckdb", [flow.spans])
    query = """SELECT t.metadata, s.error_message, e.payload
        FROM turns t JOIN steps s USING (turn_id) JOIN events e USING (step_id)"""

    def found(*feeds: bytes) -> tuple[Any, str, dict[str, Any]]:
        rows(tmp_path / "fresh", feeds)
        ledger = max((tmp_path / "fresh").glob("*.duckdb"), key=lambda path: path.stat().st_mtime)
        with duckdb.connect(str(ledger), read_only=True) as connection:
            [(metadata, message, payload)] = connection.execute(query).fetchall()
        return metadata, message, json.loads(payload)

    metadata, message, payload = found(journal)
    assert json.loads(metadata) == {"big": "y" * 3_000}
    assert len(message) == len(payload["message"]) == 3_000
    assert payload["attempt"] == 1
    assert payload["stack"].startswith("Traceback")

    assert found(export, journal) == found(journal, export) == (metadata, message, payload)

    metadata, message, payload = found(export)
    assert metadata is None
    assert len(message) == 512
    assert len(payload["message"]) == len(payload["stack"]) == 2_000
    assert payload["stack"].endswith("\n")
    assert "attempt" not in payload


def only(folder: Path, feed: bytes, view: str) -> list[tuple[Any, ...]]:
    return rows(folder, [feed])[view]


def test_a_total_that_is_not_the_sum_is_told_by_all(flow: Flow, tmp_path: Path) -> None:
    def node(state: State) -> State:
        for asked, produced, total in ((50, 20, 3), (0, 0, 30)):
            spent: Any = {
                "input_tokens": asked,
                "output_tokens": produced,
                "total_tokens": total,
            }
            FakeLLM(replies=[AIMessage("x", usage_metadata=spent)]).invoke("a")
        return {"log": ["x"]}

    chain("a", a=node).invoke({"log": []})
    journal, export = captured(flow), exported(tmp_path / "export.duckdb", [flow.spans])
    for view in ("llm_calls", "steps", "turns", "engagements"):
        found = [only(tmp_path / "fresh", feed, view) for feed in (journal, export)]
        assert found[0] == found[1], view


def test_a_tool_that_waits_is_told_by_all(flow: Flow, tmp_path: Path) -> None:
    @tool
    def confirm(what: str) -> str:
        """Ask a human."""
        return interrupt(what)

    def node(state: State) -> State:
        return {"log": [confirm.invoke({"what": "pay"})]}

    app = chain("a", a=node)
    app.checkpointer = InMemorySaver()
    app.invoke({"log": []}, {"configurable": {"thread_id": "t"}})
    journal, export = captured(flow), exported(tmp_path / "export.duckdb", [flow.spans])
    found = [only(tmp_path / "fresh", feed, "tool_calls") for feed in (journal, export)]
    assert found[0] == found[1]
