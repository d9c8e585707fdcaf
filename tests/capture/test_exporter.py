"""The `duckdb` exporter: alone, beside capture, and the same rows whichever of them says it, in any order."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pytest
from graphs import State, calling, chain, llm
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, RetryPolicy, interrupt
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExportResult

import spanflow
from spanflow import guard
from spanflow.capture.exporter import DuckDBSpanExporter, default_ledger
from spanflow.ledger.ingest import ingest
from spanflow.ledger.places import Places
from spanflow.ledger.publish import refresh

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from conftest import Flow
    from opentelemetry.sdk.trace import ReadableSpan

# Columns that capture and an exporter both know, by view. What is left out, and why:
# - of everything: which process and which source wrote it;
# - of turns and calls: nothing else; of events: the payload of errors (below);
# - graphs, whole: no span describes a topology.
COLUMNS = {
    "engagements": """engagement_id, name, status, goal, dropped_at, abandon_reason, user_id, session_id,
        conversation_id, metadata, started_at, last_seen_at, ended_at, turns, steps, llm_calls, tool_calls, errors,
        input_tokens, output_tokens, total_tokens, cost_usd, calls_without_usage, unpriced_calls, working_ms,
        waiting_ms, service_name""",
    "turns": "* EXCLUDE (process_id)",
    "steps": "* EXCLUDE (process_id)",
    # Ours is the moment the first piece arrived here; the span's own is taken a few microseconds later.
    "llm_calls": "* EXCLUDE (source, service_name, time_to_first_token_ms), time_to_first_token_ms IS NULL",
    "tool_calls": "* EXCLUDE (source, service_name)",
    # A span holds 2,000 characters of a stack and not the number of the attempt.
    "events": """* EXCLUDE (payload),
        if(kind = 'error', json_object('message', json_extract(payload, '$.message')), payload) AS payload""",
    "waits": "*",
    "transitions": "*",
    "spans": "kind, name, status, trace_id, span_id, parent_span_id, engagement_id, turn_id, step_id, started_ns, "
    "ended_ns, error_type, error_message, scope, phase",
}
AS_OF = "TIMESTAMP '2100-01-01'"


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


def lines_of(ledger: Path) -> bytes:
    """What was journalled beside `ledger` and not ingested yet."""
    folder = Places.of(ledger).journal
    return b"".join(path.read_bytes() for path in sorted(folder.glob("*.ndjson")))


def exported(ledger: Path, batches: Sequence[Sequence[ReadableSpan]]) -> bytes:
    """What an exporter journals of `batches`."""
    exporter = DuckDBSpanExporter(ledger)
    for batch in batches:
        assert exporter.export(batch) is SpanExportResult.SUCCESS
    exporter.shutdown()
    return lines_of(ledger)


def captured(flow: Flow) -> bytes:
    """What capture journalled, after which it is switched off."""
    spanflow.uninstrument()
    return lines_of(flow.ledger)


def rows(
    folder: Path, feeds: Sequence[bytes], *, at_once: bool = False
) -> dict[str, list[tuple[Any, ...]]]:
    """Ingest `feeds` one after another into a fresh ledger, and return what both sides know of it."""
    folder.mkdir(exist_ok=True)
    ledger = folder / f"{len(list(folder.iterdir()))}.duckdb"
    places = Places.of(ledger)
    places.make()
    for number, lines in enumerate(feeds):
        (places.journal / f"{number:020d}-host-{number}-1.ndjson").write_bytes(lines)
        if not at_once:
            assert ingest(ledger) is not None
    refresh(ledger)
    with duckdb.connect(str(ledger), read_only=True) as connection:
        return {
            view: connection.execute(
                f"SELECT {columns} FROM {_source(view)} ORDER BY ALL"
            ).fetchall()
            for view, columns in COLUMNS.items()
        }


def _source(view: str) -> str:
    # Read at one moment: whether a pause counts as abandoned depends on the clock.
    return f"engagements(as_of := {AS_OF})" if view == "engagements" else view


@pytest.fixture
def feeds(flow_with: Callable[..., Flow], tmp_path: Path) -> dict[str, bytes]:
    """One run as its journal, as one export, and as another of the same spans backwards and in small batches."""
    flow = flow_with(goals=["submitted"], global_steps=["escalate"])
    run_everything()
    journal = captured(flow)
    spans = flow.spans
    backwards = [spans[::-1][first : first + 5] for first in range(0, len(spans), 5)]
    return {
        "journal": journal,
        "export": exported(tmp_path / "export.duckdb", [spans]),
        "again": exported(tmp_path / "again.duckdb", backwards),
    }


def test_any_feeds_in_any_order_give_the_same_rows(
    feeds: dict[str, bytes], tmp_path: Path
) -> None:
    expected = rows(tmp_path / "fresh", [feeds["journal"]])
    assert {view: len(found) for view, found in expected.items() if view != "spans"} == {
        "engagements": 3,
        "turns": 4,
        "steps": 12,
        "llm_calls": 9,
        "tool_calls": 2,
        "events": 17,
        "waits": 1,
        "transitions": 7,
    }

    @settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(
        order=st.lists(st.sampled_from(["journal", "export", "again"]), min_size=1, max_size=4),
        at_once=st.booleans(),
    )
    @example(order=["export"], at_once=False)
    @example(order=["export", "journal"], at_once=False)
    @example(order=["journal", "export"], at_once=False)
    @example(order=["again", "export", "journal", "again"], at_once=True)
    def same(order: list[str], at_once: bool) -> None:
        found = rows(tmp_path / "fresh", [feeds[name] for name in order], at_once=at_once)
        for view, wanted in expected.items():
            assert found[view] == wanted, view

    same()


@settings(
    max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_a_torn_feed_is_mended_by_any_whole_one(
    feeds: dict[str, bytes], tmp_path: Path, data: st.DataObject
) -> None:
    """A part of one feed and the whole of another are the whole, whichever comes first."""
    lines = feeds[data.draw(st.sampled_from(["journal", "export"]))].splitlines(keepends=True)
    part = b"".join(data.draw(st.lists(st.sampled_from(lines), unique=True, max_size=20)))
    order = data.draw(st.permutations([part, feeds["again"]]))
    assert rows(tmp_path / "torn", order) == rows(tmp_path / "torn", [feeds["journal"]])


def test_what_a_span_is_too_small_for_stays_in_the_journal(flow: Flow, tmp_path: Path) -> None:
    """Long stacks, messages and metadata, and which attempt failed: capture knows, an exporter does not."""

    def boom(state: State) -> State:
        raise ValueError("x" * 3_000)

    with pytest.raises(ValueError, match="xxx"):
        chain("boom", boom=boom).invoke({"log": []}, {"metadata": {"big": "y" * 3_000}})
    journal, export = captured(flow), exported(tmp_path / "export.duckdb", [flow.spans])
    query = """SELECT t.metadata, s.error_message, e.payload FROM turns t JOIN steps s USING (turn_id)
        JOIN events e ON e.step_id = s.step_id"""

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


def standalone(ledger: Path | None = None) -> tuple[DuckDBSpanExporter, TracerProvider]:
    exporter = DuckDBSpanExporter(ledger)
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return exporter, provider


def ask(ledger: Path, query: str) -> list[tuple[Any, ...]]:
    refresh(ledger)
    with duckdb.connect(str(ledger), read_only=True) as connection:
        return connection.execute(query).fetchall()


def test_alone_it_keeps_model_calls_and_nothing_unrelated(tmp_path: Path) -> None:
    ledger = tmp_path / "alone.duckdb"
    _, provider = standalone(ledger)
    tracer = provider.get_tracer("somebody")
    call = {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "m",
        "gen_ai.usage.input_tokens": 3,
    }
    with tracer.start_as_current_span("GET /"), tracer.start_as_current_span("chat m", None) as at:
        at.set_attributes({**call, "gen_ai.input.messages": "a secret"})
    assert provider.force_flush()
    assert ask(ledger, "SELECT model, input_tokens, counted, engagement_id FROM llm_calls") == [
        ("m", 3, True, None)
    ]
    assert ask(ledger, "SELECT count(*) FROM records") == [(1,)]
    assert "a secret" not in str(ask(ledger, "SELECT attributes FROM records"))
    assert ask(ledger, "SELECT count(*) FROM engagements") == [(0,)]
    provider.shutdown()


def test_flushing_and_shutting_down_seal_what_was_written(tmp_path: Path) -> None:
    ledger = tmp_path / "alone.duckdb"
    exporter, provider = standalone(ledger)
    tracer = provider.get_tracer("somebody")
    for seal in (exporter.force_flush, exporter.shutdown):
        tracer.start_span("x", attributes={"gen_ai.operation.name": "chat"}).end()
        seal()
        assert not list(Places.of(ledger).journal.glob("*.open"))
    assert ask(ledger, "SELECT count(*) FROM llm_calls") == [(2,)]
    assert exporter.export([]) is SpanExportResult.FAILURE
    provider.shutdown()


def test_beside_capture_on_the_same_ledger_it_adds_nothing(flow: Flow) -> None:
    chain("a", a=calling(llm(1, 1))).invoke({"log": []})
    exporter = DuckDBSpanExporter(flow.ledger)
    before = flow.sql("SELECT * FROM records ORDER BY span_id")
    assert exporter.export(flow.spans) is SpanExportResult.SUCCESS
    assert flow.sql("SELECT * FROM records ORDER BY span_id") == before
    assert {source for (source,) in flow.sql("SELECT source FROM spans")} == {"capture"}


def test_switched_off_it_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flow: Flow
) -> None:
    chain("a").invoke({"log": []})
    monkeypatch.setenv("SPANFLOW_ENABLED", "false")
    ledger = tmp_path / "off.duckdb"
    assert DuckDBSpanExporter(ledger).export(flow.spans) is SpanExportResult.SUCCESS
    assert not Places.of(ledger).directory.exists()


def test_a_place_that_cannot_be_written_is_a_failure_and_no_error(
    tmp_path: Path, flow: Flow, caplog: pytest.LogCaptureFixture
) -> None:
    chain("a").invoke({"log": []})
    (tmp_path / "file").write_text("")
    exporter = DuckDBSpanExporter(tmp_path / "file" / "traces.duckdb")
    assert exporter.export(flow.spans) is SpanExportResult.FAILURE
    assert exporter.force_flush()
    exporter.shutdown()
    assert guard.counts() == {"journal.lost": 2}
    assert len(caplog.messages) == 1


def test_one_odd_span_does_not_lose_the_batch(tmp_path: Path, flow: Flow) -> None:
    chain("a").invoke({"log": []})
    guard.set_strict(False)
    odd: Any = object()
    exporter = DuckDBSpanExporter(tmp_path / "odd.duckdb")
    assert exporter.export([odd, *flow.spans]) is SpanExportResult.FAILURE
    exporter.shutdown()
    assert guard.counts() == {"exporter.export": 1}
    assert ask(tmp_path / "odd.duckdb", "SELECT path, status FROM steps") == [("a", "completed")]


@pytest.mark.parametrize(
    ("asked", "expected"),
    [("otlp,duckdb", Path("spanflow.duckdb")), ("duckdb", Path("spanflow.duckdb")), ("otlp", None)],
)
def test_the_default_ledger_is_there_only_where_the_exporter_was_asked_for(
    monkeypatch: pytest.MonkeyPatch, asked: str, expected: Path | None
) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", asked)
    assert default_ledger() == expected


def test_without_a_path_it_takes_the_variable_then_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SPANFLOW_LEDGER", raising=False)
    for name in ("spanflow", "named"):
        _, provider = standalone()
        tracer = provider.get_tracer("somebody")
        tracer.start_span("x", attributes={"gen_ai.operation.name": "chat"}).end()
        provider.shutdown()
        assert ask(tmp_path / f"{name}.duckdb", "SELECT count(*) FROM llm_calls") == [(1,)]
        monkeypatch.setenv("SPANFLOW_LEDGER", "named.duckdb")
