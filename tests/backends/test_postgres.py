"""A journey through five processes whose checkpoints lie in a real PostgreSQL server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.register_assert_rewrite("journeys.crossing", "journeys.processes")

from journeys.crossing import CHECKS, cross  # noqa: E402 - after its assertions are told of
from journeys.processes import BIN, Workers  # noqa: E402

pytestmark = [pytest.mark.backends, pytest.mark.timeout(600)]


@pytest.fixture(scope="module", params=["postgres", "apostgres"])
def crossing(request, postgres, tmp_path_factory):
    with postgres() as address:
        folder = tmp_path_factory.mktemp(request.param)
        yield cross(Workers(folder, "approval.py", request.param, address))


def test_asked_by_one_worker_and_answered_by_another(postgres, tmp_path):
    worker = Path(__file__).parents[2] / "examples" / "recipes" / "approval_worker.py"
    ledger = tmp_path / "traces.duckdb"
    with postgres() as address:
        for said in (("ask", "trip-7"), ("answer", "trip-7", "yes")):
            done = subprocess.run(
                [BIN / "opentelemetry-instrument", sys.executable, worker, *said],
                env={
                    **os.environ,
                    "CHECKPOINTS": address,
                    "SPANFLOW_LEDGER": str(ledger),
                    "OTEL_TRACES_EXPORTER": "none",
                    "OTEL_METRICS_EXPORTER": "none",
                    "OTEL_LOGS_EXPORTER": "none",
                },
                capture_output=True,
                text=True,
                timeout=240,
                check=False,
            )
            assert (done.returncode, done.stderr) == (0, "")
    query = "SELECT step_name, label, waited_ms > 0 AS waited, resolution FROM waits"
    asked = subprocess.run(
        [BIN / "spanflow", "sql", query, "--ledger", ledger, "--json"],
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )
    assert json.loads(asked.stdout) == [
        {"step_name": "approve", "label": "approval", "waited": True, "resolution": "approved"}
    ]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_five_processes_and_one_journey(crossing, check):
    check(crossing)
