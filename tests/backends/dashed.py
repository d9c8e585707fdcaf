"""The demo's metrics and spans in a real Prometheus and Tempo, and what these answer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
from backends import servers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BIN = Path(sys.executable).parent
TESTS = Path(__file__).parents[1]
USERS = 40
PATIENCE_S = 120
STEP_S = 5
_SCRAPED = """
global: {{scrape_interval: 1s}}
scrape_configs:
  - job_name: collector
    honor_labels: true
    static_configs: [{{targets: ['{metrics}']}}]
"""
_PUSHED = "global: {scrape_interval: 1s}"


@dataclass
class Recorded:
    """One day of the demo, and of a program with a bad day, as three stores have it."""

    ledger: Path
    prometheus: str = ""
    began: int = field(default_factory=lambda: int(time.time()))
    """When it began, in seconds since 1970."""
    tempo: str = ""
    ended: int = field(default_factory=lambda: int(time.time()))

    def rows(self, query: str) -> list[dict[str, Any]]:
        """Ask the ledger."""
        with duckdb.connect(str(self.ledger), read_only=True) as connection:
            asked = connection.execute(query)
            names = [column[0] for column in asked.description or ()]
            return [dict(zip(names, row, strict=True)) for row in asked.fetchall()]

    def one(self, query: str) -> Any:
        """The only value of the only row."""
        [row] = self.rows(query)
        [value] = row.values()
        return value

    def instant(self, expression: str) -> list[dict[str, Any]]:
        """Ask Prometheus for one value a series, at the end of the range."""
        told = self._asked("query", query=expression, time=self.ended)
        assert told["resultType"] in {"vector", "scalar"}
        return told["result"]

    def series(self, expression: str) -> list[dict[str, Any]]:
        """Ask Prometheus for values over the range."""
        return self._asked(
            "query_range",
            query=expression,
            start=self.began,
            end=self.began + STEP_S * (1 + (self.ended - self.began) // STEP_S),
            step=STEP_S,
        )["result"]

    def _asked(self, path: str, **arguments: Any) -> Any:
        told = get(self.prometheus, f"/api/v1/{path}", **arguments)
        assert told["status"] == "success", told
        return told["data"]


def get(address: str, path: str, **arguments: Any) -> Any:
    """Get JSON over HTTP; an answer that says no is an error with its text."""
    url = f"http://{address}{path}?{urllib.parse.urlencode(arguments)}"
    try:
        with urllib.request.urlopen(url, timeout=240) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as refused:
        message = f"{path} {arguments}: {refused.read().decode()}"
        raise AssertionError(message) from None


def until(holds: Callable[[], bool], what: str) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, f"{what} within {PATIENCE_S} s"
        time.sleep(0.5)


@contextmanager
def through_a_collector(folder: Path) -> Iterator[Recorded]:
    """Record while a Collector makes span metrics, serves all metrics, and hands spans to Tempo."""
    with ExitStack() as stack:
        tempo = stack.enter_context(servers.tempo(folder))
        metrics = servers.free_address()
        where = {"METRICS": metrics, "METRICS_EVERY": "1s", "BACKEND": tempo.otlp}
        sending = stack.enter_context(servers.collector(folder, "span-metrics.yaml", **where))
        scraped = _SCRAPED.format(metrics=metrics)
        address = stack.enter_context(servers.prometheus(folder, scraped))
        recorded = Recorded(folder / "traces.duckdb", address, int(time.time()), tempo.query)
        _record(recorded, {**sending, "OTEL_METRICS_EXPORTER": "otlp"})
        yield recorded


@contextmanager
def pushed(folder: Path) -> Iterator[Recorded]:
    """Record while programs send their metrics over OTLP to Prometheus itself."""
    with servers.prometheus(folder, _PUSHED) as address:
        recorded = Recorded(folder / "traces.duckdb", address, int(time.time()))
        sending = {
            "OTEL_TRACES_EXPORTER": "none",
            "OTEL_METRICS_EXPORTER": "otlp",
            "OTEL_LOGS_EXPORTER": "none",
            "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL": "http/protobuf",
            "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": f"http://{address}/api/v1/otlp/v1/metrics",
        }
        _record(recorded, sending)
        yield recorded


def live(ledger: Path, sending: dict[str, str]) -> None:
    """Live through the demo's day and the odd one, into a ledger and wherever it is sent."""
    demo = [BIN / "spanflow", "demo", "--users", str(USERS), "--ledger", ledger, "--json"]
    odd = [sys.executable, TESTS / "dashboards" / "odd_day.py", ledger.parent]
    for name, command in (("booking", demo), ("research", odd)):
        environment = {
            **os.environ,
            **sending,
            "OTEL_METRIC_EXPORT_INTERVAL": "1000",
            "OTEL_RESOURCE_ATTRIBUTES": f"service.instance.id={name}-1",
            "OTEL_SERVICE_NAME": name,
            "SPANFLOW_LEDGER": str(ledger),
            "PYTHONPATH": str(TESTS),
        }
        done = subprocess.run(
            [BIN / "opentelemetry-instrument", *command],
            env=environment,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    ingest = [BIN / "spanflow", "ingest", "--ledger", ledger]
    subprocess.run(ingest, check=True, capture_output=True, timeout=240)


def _record(recorded: Recorded, sending: dict[str, str]) -> None:
    live(recorded.ledger, sending)
    turns = recorded.one("SELECT count(*) FROM turns")

    def arrived() -> bool:
        recorded.ended = int(time.time())
        found = recorded.instant("sum(last_over_time(spanflow_turns_total[1h]))")
        return bool(found) and float(found[0]["value"][1]) == turns

    until(arrived, f"{turns} turns in Prometheus")
    time.sleep(2 * STEP_S)  # what is shown by the step must have a step after it
    recorded.ended = int(time.time())
