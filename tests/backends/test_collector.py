"""What a real Collector receives over gRPC and HTTP equals, span by span, what the ledger says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from backends.conftest import ALIKE

from spanflow import semconv

pytestmark = [pytest.mark.backends, pytest.mark.timeout(600)]

AGENT = Path(__file__).parents[2] / "examples" / "booking_agent.py"
BIN = Path(sys.executable).parent


def _run(command, environment):
    done = subprocess.run(
        command,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done


def _rows(ledger, query):
    answer = _run([BIN / "spanflow", "sql", query, "--ledger", ledger, "--json"], {})
    return json.loads(answer.stdout)


def _ours(spans):
    return {key: span for key, span in spans.items() if semconv.TURN_ID in span.attributes}


@pytest.fixture(scope="module", params=["grpc", "http/protobuf"])
def recorded(request, start_collector, tmp_path_factory):
    """The booking agent's spans in the Collector's file, and the ledger of the same run."""
    folder = tmp_path_factory.mktemp("recorded")
    ledger = folder / "traces.duckdb"
    with start_collector(folder) as collector:
        _run(
            [BIN / "opentelemetry-instrument", sys.executable, AGENT],
            {**collector.environment(request.param), "SPANFLOW_LEDGER": str(ledger)},
        )
        [row] = _rows(ledger, "SELECT count(*) AS n FROM spans")
        assert row["n"] > 20
        return _ours(collector.spans(at_least=row["n"])), ledger


def test_a_run_arrives_as_turns_with_steps_with_calls(recorded):
    spans, _ = recorded
    children = Counter(
        (spans[span.parent_span_id].name.split()[0], span.name.split()[0])
        for span in spans.values()
        if span.parent_span_id
    )
    roots = [span for span in spans.values() if span.parent_span_id is None]
    assert {span.name for span in roots} == {"invoke_workflow booking"}
    assert children["invoke_workflow", "step"] > 5
    assert children["step", "invoke_workflow"] > 0  # the subgraph `search`
    assert children["step", "chat"] > 0
    assert children["step", "execute_tool"] > 0
    for span in spans.values():
        if span.name.startswith("invoke_workflow"):
            assert not {key for key in span.attributes if key.startswith("gen_ai.usage.")}


def test_every_span_of_the_ledger_arrived_where_it_belongs(recorded):
    spans, ledger = recorded
    rows = _rows(ledger, "SELECT trace_id, span_id, parent_span_id, engagement_id FROM spans")
    assert sorted(row["span_id"] for row in rows) == sorted(spans)
    for row in rows:
        span = spans[row["span_id"]]
        assert (span.trace_id, span.parent_span_id) == (row["trace_id"], row["parent_span_id"])
        assert span.attributes[semconv.ENGAGEMENT_ID] == row["engagement_id"]


def test_turns_and_steps_say_the_same_in_both_places(recorded):
    spans, ledger = recorded
    turns = _rows(ledger, "SELECT turn_id, outcome, total_tokens FROM turns")
    assert turns
    for row in turns:
        attributes = spans[row["turn_id"]].attributes
        assert attributes[semconv.TURN_OUTCOME] == row["outcome"]
        assert attributes[semconv.USAGE_PREFIX + "total_tokens"] == row["total_tokens"]
    steps = _rows(
        ledger,
        "SELECT step_id, turn_id, steps.name, path, visit, attempts, status, steps.input_tokens,"
        " steps.output_tokens, chain_id FROM steps JOIN turns USING (turn_id)",
    )
    assert steps
    for row in steps:
        span = spans[row["step_id"]]
        assert span.name == f"step {row['name']}"
        says = {
            "turn_id": span.attributes[semconv.TURN_ID],
            "path": span.attributes[semconv.STEP_PATH],
            "visit": span.attributes[semconv.STEP_VISIT],
            "attempts": span.attributes[semconv.STEP_ATTEMPTS],
            "status": span.attributes[semconv.STEP_STATUS],
        }
        if row["chain_id"] is not None:
            # A span counts the visits of its turn; the ledger goes on from the turns before.
            assert says.pop("visit") <= row["visit"]
        assert says == {key: row[key] for key in says}
        for key in ("input_tokens", "output_tokens"):
            told = span.attributes.get(semconv.USAGE_PREFIX + key)
            assert (told or 0) == (row[key] or 0)


def test_calls_say_the_same_in_both_places(recorded):
    spans, ledger = recorded
    models = _rows(
        ledger, "SELECT span_id, step_id, model, input_tokens, output_tokens FROM llm_calls"
    )
    assert models
    for row in models:
        span = spans[row["span_id"]]
        assert span.name.startswith("chat ")
        assert span.attributes[semconv.STEP_ID] == row["step_id"]
        assert span.attributes[semconv.GEN_AI_USAGE_INPUT_TOKENS] == row["input_tokens"]
        assert span.attributes[semconv.GEN_AI_USAGE_OUTPUT_TOKENS] == row["output_tokens"]
    tools = _rows(ledger, "SELECT span_id, step_id, name, status FROM tool_calls")
    assert tools
    for row in tools:
        span = spans[row["span_id"]]
        assert span.name == f"execute_tool {row['name']}"
        assert span.attributes[semconv.STEP_ID] == row["step_id"]
        assert (span.status == 2) == (row["status"] == "error")


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_the_demo_arrives_whole(protocol, start_collector, tmp_path):
    ledger = tmp_path / "demo.duckdb"
    with start_collector(tmp_path) as collector:
        _run(
            [
                *(BIN / "opentelemetry-instrument", BIN / "spanflow", "demo"),
                *("--users", "20", "--ledger", ledger),
            ],
            collector.environment(protocol),
        )
        rows = _rows(ledger, "SELECT span_id, trace_id FROM spans")
        spans = _ours(collector.spans(at_least=len(rows)))
    assert {(row["trace_id"], row["span_id"]) for row in rows} == {
        (span.trace_id, span.span_id) for span in spans.values()
    }


def test_the_collectors_file_gives_the_same_ledger(recorded, tmp_path):
    """Ids, names, statuses and tokens; and giving it to the ledger of the run changes nothing."""
    spans, ledger = recorded
    file = ledger.with_name("spans.json")
    told = _run(
        [BIN / "spanflow", "ingest", file, "--ledger", tmp_path / "told.duckdb", "--json"], {}
    )
    [report] = json.loads(told.stdout)["files"]
    assert (report["records"], report["refused"]) == (len(spans), 0)
    _run([BIN / "spanflow", "ingest", file, "--ledger", ledger], {})
    for view, columns in ALIKE.items():
        query = f"SELECT {columns} FROM {view} ORDER BY ALL"
        rows = _rows(ledger, query)
        assert rows
        assert _rows(tmp_path / "told.duckdb", query) == rows, view
    sources = _rows(ledger, "SELECT DISTINCT source FROM spans")
    assert sources == [{"source": "capture"}]
