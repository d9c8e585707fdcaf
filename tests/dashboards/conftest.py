"""A ledger of two busy days of the demo and one odd one, for the panels that ask it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import duckdb
import pytest
from dashboards import grafana

BIN = Path(sys.executable).parent
TESTS = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def asked(tmp_path_factory):
    folder = tmp_path_factory.mktemp("asked")
    ledger = folder / "traces.duckdb"
    began_ms = int(time.time() * 1000)
    environment = {
        **os.environ,
        "PYTHONPATH": str(TESTS),
        "SPANFLOW_LEDGER": str(ledger),
    }
    demo = [BIN / "spanflow", "demo", "--json"]
    odd = [BIN / "spanflow", "run", TESTS / "dashboards" / "odd_day.py", folder]
    price = [BIN / "spanflow", "prices", "set", "desk-large", "--input", "3", "--output", "15"]
    for command, idle_after in (
        ([*demo, "--users", "25", "--seed", "7"], "30m"),
        ([*demo, "--users", "15", "--seed", "8"], "30m"),
        (odd, "1s"),  # from here on, whoever is silent has left
        (price, "1s"),
    ):
        environment["SPANFLOW_IDLE_AFTER"] = idle_after
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=240, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
    time.sleep(1.1)
    until_ms = int(time.time() * 1000)
    with duckdb.connect(str(ledger), read_only=True) as connection:
        variables = {
            "__from": str(began_ms),
            "__to": str(until_ms),
            "__interval_ms": "60000",
            "engagement": grafana.ALL,
            "step": grafana.ALL,
            "metadata_key": "tier",
        }
        choices = grafana.Asked(connection, variables)
        [steps] = [
            choices.shown(found["query"])[1]
            for found in grafana.variables("engagements").values()
            if found["name"] == "steps"
        ]
        yield grafana.Asked(connection, {**variables, "steps": [path for (path,) in steps]})
