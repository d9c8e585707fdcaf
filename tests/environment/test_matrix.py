"""Nothing but variables: what the agent's user sees, what a back end gets, what the ledger has."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from environment.cells import CELLS, THEIRS

if TYPE_CHECKING:
    from environment.conftest import Run, Runs

WITH_LEDGER = [name for name, cell in CELLS.items() if cell.ledger]
SWITCHES = {"spanflow", "spanflow.errors", "spanflow.guard", "spanflow.setup", "spanflow.switches"}
LOADED = {
    "nothing": set[str](),
    "switches": SWITCHES,
    "exporter": SWITCHES | {"spanflow.capture", "spanflow.capture.exporter"},
}
WHOLE = {
    "engagements": "name, status, last_step, conversation_id, turns, steps, llm_calls, tool_calls,"
    " errors, input_tokens, output_tokens, total_tokens, calls_without_usage",
    "turns": "kind, outcome, graph_version, total_tokens, llm_calls, tool_calls",
    "steps": "path, visit, attempts, status, total_tokens, llm_calls, tool_calls",
    "llm_calls": "step_name, model, input_tokens, output_tokens, cache_read_tokens, counted,"
    " status",
    "tool_calls": "step_name, name, call_id, status, error_type",
    "waits": "path, resolution, is_open",
    "transitions": "from_step, to_step",
    "spans": "kind, name, scope",
}
"""Columns that are the same each time the agent runs."""


IDENTITY = {"spanflow.engagement.id", "spanflow.turn.id"}
KEPT = {
    "step": IDENTITY | {f"spanflow.step.{key}" for key in ("id", "name", "path", "status")},
    "invoke_workflow": IDENTITY,
}
"""What our own spans keep to the last."""


def ids(run: Run, ledger: str) -> set[tuple[str, str]]:
    return set(run.ask(ledger, "SELECT trace_id, span_id FROM spans"))


def told(run: Run, ledger: str) -> dict[str, list[tuple[Any, ...]]]:
    return {
        view: run.ask(ledger, f"SELECT {columns} FROM {view} ORDER BY ALL")
        for view, columns in WHOLE.items()
    }


@pytest.mark.parametrize("name", CELLS)
def test_the_agents_own_answers_are_the_same(runs: Runs, name: str) -> None:
    plain, run = runs["plain"], runs[name]
    assert run.done.stdout == plain.done.stdout
    assert "Booked. Your reference is" in run.done.stdout


@pytest.mark.parametrize("name", CELLS)
def test_standard_error_is_silent_but_for_opentelemetrys_own_complaints(
    runs: Runs, name: str
) -> None:
    said = runs[name].done.stderr
    for expected in CELLS[name].said:
        assert expected in said
    assert CELLS[name].said or said == ""
    assert "spanflow:" not in said


@pytest.mark.parametrize("name", CELLS)
def test_there_is_a_file_only_where_a_ledger_was_asked_for(runs: Runs, name: str) -> None:
    ledger, run = CELLS[name].ledger, runs[name]
    if ledger is not None:
        assert run.ask(ledger, "SELECT count(*) FROM engagements") == [(1,)]
    assert run.files == ({ledger, f"{ledger}.d"} if ledger else set())


@pytest.mark.parametrize("name", CELLS)
def test_what_is_not_wanted_is_not_imported(runs: Runs, name: str) -> None:
    cell, loaded = CELLS[name], runs[name].loaded
    if cell.loaded == "all":
        assert "spanflow.instrument.langgraph" in loaded
    elif cell.loaded == "exporter" and name == "an unknown exporter":
        # OpenTelemetry loaded it, and then gave up before any instrumentor.
        assert loaded <= LOADED["exporter"]
    else:
        assert loaded == LOADED[cell.loaded]


@pytest.mark.parametrize("name", CELLS)
def test_the_back_end_gets_the_spans_that_the_ledger_has(runs: Runs, name: str) -> None:
    cell, run = CELLS[name], runs[name]
    received = [(span.trace_id, span.span_id) for span in run.received.ours.values()]
    assert (
        len(received)
        == len(set(received))
        == sum(s.scope == "spanflow" for s in run.received.spans)
    )
    if cell.spans == "all":
        whole = runs["otlp, ledger"]
        assert len(received) == len(ids(whole, THEIRS)) > 50
        if cell.ledger:
            assert set(received) == ids(run, cell.ledger)
    elif cell.spans == "some" and cell.ledger:
        assert set(received) == {
            pair for pair in ids(run, cell.ledger) if pair[0] in dict(received)
        }
    else:
        assert received == []


@pytest.mark.parametrize("name", CELLS)
def test_others_are_left_alone(runs: Runs, name: str) -> None:
    others = [span for span in runs[name].received.spans if span.scope == "other"]
    if CELLS[name].spans != "some":
        assert len(others) == CELLS[name].other
    assert all(span.attributes == {} for span in others)


@pytest.mark.parametrize("name", WITH_LEDGER)
def test_the_ledger_is_complete_whatever_becomes_of_the_spans(runs: Runs, name: str) -> None:
    complete = told(runs["none, ledger"], THEIRS)
    assert told(runs[name], str(CELLS[name].ledger)) == complete
    [engagement] = complete["engagements"]
    assert engagement[:8] == ("booking", "completed", "submitted", "aiko-1", 4, 34, 13, 9)


@pytest.mark.parametrize("name", WITH_LEDGER)
def test_the_service_has_one_name_on_spans_and_in_the_ledger(runs: Runs, name: str) -> None:
    run, ledger = runs[name], str(CELLS[name].ledger)
    expected = {
        "otlp,duckdb by gRPC": "desk",
        "otlp,duckdb by HTTP": "back office",
        "file with both": "from-the-file",
        "file without traces": None,
    }.get(name, f"unknown_service:{Path(sys.executable).name}")
    found = {value for (value,) in run.ask(ledger, "SELECT service_name FROM engagements")}
    found |= {value for (value,) in run.ask(ledger, "SELECT service_name FROM processes")}
    found |= {span.resource["service.name"] for span in run.received.ours.values()}
    assert found == {expected}


def test_other_resource_attributes_are_the_spans_alone(runs: Runs) -> None:
    spans = runs["otlp,duckdb by gRPC"].received.ours.values()
    assert {span.resource["deployment.environment.name"] for span in spans} == {"test"}


@pytest.mark.parametrize("name", ["dead by gRPC", "dead by HTTP"])
def test_a_dead_back_end_costs_the_run_nothing(runs: Runs, name: str) -> None:
    # Far more than the conversation takes, and far less than waiting for exports would.
    assert runs[name].took_s < runs["none, ledger"].took_s + 60


def test_metrics_go_where_the_spans_go(runs: Runs) -> None:
    assert {"spanflow.turns", "spanflow.step.duration", "spanflow.usage.tokens"} <= runs[
        "otlp by HTTP"
    ].received.metrics


def test_what_a_span_keeps_of_ours_where_few_attributes_are_allowed(runs: Runs) -> None:
    spans = runs["few attributes"].received.ours.values()
    assert max(len(span.attributes) for span in spans) == 10
    for span in spans:
        kind = span.name.split()[0]
        if kind in KEPT:
            assert span.attributes.keys() >= KEPT[kind]
