"""A ledger of two busy days of the demo and one odd one, for the panels that ask it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pytest
from dashboards import grafana

BIN = Path(sys.executable).parent
TESTS = Path(__file__).parents[1]


@dataclass(frozen=True)
class Asked:
    """A ledger, and what is chosen above the panels."""

    connection: duckdb.DuckDBPyConnection
    variables: dict[str, Any]

    def answer(self, sql: str) -> tuple[list[tuple[str, str]], list[tuple[Any, ...]]]:
        """Columns with their types, and rows."""
        done = self.connection.execute(sql)
        columns = [(column[0], str(column[1])) for column in done.description or ()]
        return columns, done.fetchall()

    def shown(self, sql: str, **chosen: Any) -> tuple[list[tuple[str, str]], list[tuple[Any, ...]]]:
        """The same for a query with variables, as the data source fills them in."""
        return self.answer(grafana.filled(sql, self.variables | chosen, "sqlstring"))


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
            command, env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stderr
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
        choices = Asked(connection, variables)
        [steps] = [
            choices.shown(found["query"])[1]
            for found in grafana.variables("engagements").values()
            if found["name"] == "steps"
        ]
        yield Asked(connection, {**variables, "steps": [path for (path,) in steps]})
