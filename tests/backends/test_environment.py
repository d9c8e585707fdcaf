"""Variables and a configuration file, with a real Collector at the other end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.backends, pytest.mark.timeout(600)]

AGENT = Path(__file__).parents[2] / "examples" / "booking_agent.py"
BIN = Path(sys.executable).parent
FILE = """
file_format: "1.0"
tracer_provider:
  processors:
    - batch: {exporter: {EXPORTER}}
    - batch: {exporter: {duckdb: {}}}
"""
BY_FILE = {
    "grpc": 'otlp_grpc: {endpoint: "ENDPOINT", tls: {insecure: true}}',
    "http/protobuf": 'otlp_http: {endpoint: "ENDPOINT/v1/traces"}',
}


@pytest.mark.parametrize("by", ["variables", "file", "ratio 0"])
@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_the_collector_gets_the_spans_that_the_ledger_has(start_collector, tmp_path, protocol, by):
    with start_collector(tmp_path) as collector:
        sending = collector.environment(protocol)
        if by == "file":
            exporter = BY_FILE[protocol].replace("ENDPOINT", sending["OTEL_EXPORTER_OTLP_ENDPOINT"])
            (tmp_path / "otel.yaml").write_text(FILE.replace("EXPORTER", exporter), "utf-8")
            sending = {"OTEL_CONFIG_FILE": "otel.yaml"}
        else:
            sending["OTEL_TRACES_EXPORTER"] = "otlp,duckdb"
        if by == "ratio 0":
            sending |= {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0"}
        done = subprocess.run(
            [BIN / "opentelemetry-instrument", sys.executable, AGENT],
            cwd=tmp_path,
            env={**os.environ, **sending},
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        asked = [BIN / "spanflow", "sql", "SELECT span_id FROM spans", "--json"]
        answer = subprocess.run(
            [*asked, "--ledger", tmp_path / "spanflow.duckdb"],
            capture_output=True,
            text=True,
            timeout=240,
            check=True,
        )
        kept = {row["span_id"] for row in json.loads(answer.stdout)}
        assert len(kept) > 50
        if by == "ratio 0":
            assert collector.spans(at_least=0) == {}
        else:
            assert set(collector.spans(at_least=len(kept))) == kept
