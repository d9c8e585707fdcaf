"""Programs of `apps` under auto-instrumentation, one after another, and the ledger they leave."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb

from spanflow.ledger.publish import refresh

TESTS = Path(__file__).parents[1]
BIN = Path(sys.executable).parent


@dataclass
class Workers:
    """Processes that serve one thread in turns, as workers behind a queue do."""

    folder: Path
    app: str
    saver: str
    where: str
    spans: list[dict[str, Any]] = field(default_factory=list)
    """What the processes exported, in the order of their ends."""

    @property
    def ledger(self) -> Path:
        return self.folder / "traces.duckdb"

    def work(self, does: str, returns: int = 0, **environment: str) -> dict[str, Any]:
        """Run one process to its end and return what it reported (nothing if it was killed)."""
        report = self.folder / "report.json"
        report.unlink(missing_ok=True)
        done = subprocess.run(
            [
                BIN / "opentelemetry-instrument",
                sys.executable,
                TESTS / "journeys" / "apps" / self.app,
                *(self.saver, self.where, does, report),
            ],
            env={
                **os.environ,
                "PYTHONPATH": str(TESTS),
                "SPANFLOW_LEDGER": str(self.ledger),
                "OTEL_TRACES_EXPORTER": "console",
                "OTEL_METRICS_EXPORTER": "none",
                "OTEL_LOGS_EXPORTER": "none",
                **environment,
            },
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == returns, done.stderr
        assert "spanflow" not in done.stderr, done.stderr
        self.spans += _objects(done.stdout)
        return json.loads(report.read_text(encoding="utf-8")) if report.exists() else {}

    def sql(self, query: str) -> list[tuple[Any, ...]]:
        """Ask the published file, brought up to date."""
        refresh(self.ledger)
        with duckdb.connect(str(self.ledger), read_only=True) as connection:
            return connection.execute(query).fetchall()


def _objects(text: str) -> list[dict[str, Any]]:
    """Read the JSON objects that the console exporter printed one after another."""
    found, decoder, at = [], json.JSONDecoder(), 0
    while (at := text.find("{", at)) >= 0:
        one, at = decoder.raw_decode(text, at)
        found.append(one)
    return found
