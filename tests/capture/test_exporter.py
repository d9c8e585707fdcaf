"""The `duckdb` exporter alone, beside capture, switched off and in trouble."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pytest
from graphs import calling, chain, llm
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExportResult

from spanflow import guard
from spanflow.capture.exporter import DuckDBSpanExporter, default_ledger
from spanflow.ledger.places import Places
from spanflow.ledger.publish import refresh

if TYPE_CHECKING:
    from conftest import Flow


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


def test_an_event_of_an_unknown_kind_is_a_log_that_says_what_it_was_called(tmp_path: Path) -> None:
    ledger = tmp_path / "alone.duckdb"
    _, provider = standalone(ledger)
    tracer = provider.get_tracer("another-language")
    identity = {"spanflow.engagement.id": "e1", "spanflow.turn.id": "00000000000000aa"}
    with tracer.start_as_current_span(
        "step a", attributes={**identity, "spanflow.step.name": "a", "spanflow.step.path": "a"}
    ) as span:
        span.add_event("peel", {"spanflow.event.kind": "banana", "spanflow.event.payload": "[3]"})
        span.add_event("bare", {"spanflow.event.kind": "banana"})
        span.add_event("shown", {"spanflow.event.kind": "log", "spanflow.event.payload": "[3]"})
    assert provider.force_flush()
    rows = ask(ledger, "SELECT kind, name, payload FROM events ORDER BY occurred_at, name DESC")
    assert {(kind, name): text for kind, name, text in rows} == {
        ("log", "peel"): '{"kind":"banana","payload":[3]}',
        ("log", "bare"): '{"kind":"banana"}',
        ("log", "shown"): "[3]",
    }
    provider.shutdown()
