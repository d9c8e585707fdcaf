"""A back end that is gone takes nothing from the run, and nothing from the ledger."""

from __future__ import annotations

import pytest
from backends import reading, servers
from backends.conftest import SERVICE

from spanflow import semconv

pytestmark = [pytest.mark.backends, pytest.mark.timeout(600)]


def test_the_run_goes_on_while_the_collector_is_gone(program, tmp_path):
    with servers.jaeger(tmp_path) as jaeger:
        where = {"JAEGER": jaeger.otlp, "OTLP_GRPC": servers.free_address()}
        with servers.collector(tmp_path, "otlp-to-jaeger.yaml", **where) as sending:
            agent = program(tmp_path, sending)
            agent.run("begin", "trip-1")
        answered = agent.run("answer", "trip-1")
        with servers.collector(tmp_path, "otlp-to-jaeger.yaml", **where):
            agent.run("break", "trip-2")
        traces = reading.Jaeger(jaeger.query).traces(SERVICE)
    ours = [line for line in answered.stderr.splitlines() if "spanflow" in line]
    assert answered.stdout == ""
    assert len(ours) <= 1
    rows = agent.rows("SELECT outcome FROM turns ORDER BY started_at")
    assert [row["outcome"] for row in rows] == ["paused", "completed", "failed"]
    outcomes = [
        span.attributes[semconv.TURN_OUTCOME]
        for trace in traces
        for span in trace
        if span.parent_span_id is None
    ]
    assert sorted(outcomes) == ["failed", "paused"]


def test_the_collector_goes_on_while_the_back_end_is_gone(program, tmp_path):
    """What arrived while Jaeger was away is there when it is back."""
    with servers.jaeger(tmp_path) as first:
        away = first.otlp
    with servers.collector(tmp_path, "otlp-to-jaeger.yaml", JAEGER=away) as sending:
        agent = program(tmp_path, sending)
        agent.run("begin", "trip-1")
        with servers.jaeger(tmp_path, otlp=away) as jaeger:
            found = reading.within_patience(
                lambda: reading.Jaeger(jaeger.query).traces(SERVICE), lambda traces: traces
            )
    assert [len(trace) for trace in found] == [16]
