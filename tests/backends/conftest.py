"""Real servers: Collectors, Jaeger, Tempo, PostgreSQL; and programs that send their spans there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from backends import postgres as server
from backends import reading, servers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractContextManager

BIN = Path(sys.executable).parent
AGENT = Path(__file__).with_name("agent.py")
SERVICE = "travel-agent"
ALIKE = {
    "turns": "engagement_id, turn_id, previous_turn_id, name, kind, outcome, goal, started_at,"
    " duration_ms, total_tokens, llm_calls, tool_calls, errors",
    "steps": "step_id, parent_step_id, turn_id, path, visit, attempts, status, started_at,"
    " duration_ms, total_tokens, superstep",
    "llm_calls": "span_id, step_id, step_name, model, provider, input_tokens, output_tokens,"
    " total_tokens, counted, status, started_at, duration_ms",
    "tool_calls": "span_id, step_id, name, call_id, status, error_type, started_at, duration_ms",
    "waits": "step_id, path, asked_at, waited_ms, resolution, is_open",
    "transitions": "turn_id, from_step, to_step, occurred_at",
}
"""Columns of views that are the same in every ledger that knows the same spans."""


@dataclass(frozen=True)
class Collector:
    """Where a running Collector listens, and what it has written."""

    grpc: str
    http: str
    file: Path

    def environment(self, protocol: str) -> dict[str, str]:
        """What a user sets to send traces here, and only traces."""
        sending = servers.sending_to(self.grpc)
        if protocol == "grpc":
            return sending
        return {
            **sending,
            "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{self.http}",
        }

    def spans(self, at_least: int) -> dict[str, reading.Span]:
        """All spans by id, once there are `at_least` so many; what is missing then is missing."""
        return reading.within_patience(
            lambda: {span.span_id: span for span in reading.from_file(self.file)},
            lambda spans: len(spans) >= at_least,
        )


@contextmanager
def _running(folder: Path) -> Iterator[Collector]:
    grpc, http = servers.free_address(), servers.free_address()
    file = folder / "spans.json"
    where = {"OTLP_GRPC": grpc, "OTLP_HTTP": http, "SPANS_FILE": str(file)}
    with servers.collector(folder, "otlp-to-file.yaml", **where):
        yield Collector(grpc, http, file)


@pytest.fixture(scope="session")
def start_collector() -> Callable[[Path], AbstractContextManager[Collector]]:
    """Starts a Collector which writes into a folder, as a context manager."""
    return _running


@pytest.fixture(scope="session")
def postgres() -> Callable[[], AbstractContextManager[str]]:
    """Starts a PostgreSQL server, as a context manager that gives its address."""
    return server.serving


@dataclass(frozen=True)
class Program:
    """The travel agent in processes of its own, all with one ledger and one set of checkpoints."""

    folder: Path
    environment: Mapping[str, str]

    @property
    def ledger(self) -> Path:
        """The ledger of its runs."""
        return self.folder / "traces.duckdb"

    def run(self, does: str, thread: str, **more: str) -> subprocess.CompletedProcess[str]:
        """Let it begin, answer or break on a thread, with more variables where they are given."""
        done = subprocess.run(
            [
                *(BIN / "opentelemetry-instrument", sys.executable, AGENT),
                *(does, self.folder / "checkpoints.sqlite", thread),
            ],
            env={
                **os.environ,
                "OTEL_SERVICE_NAME": SERVICE,
                "PYTHONPATH": str(AGENT.parents[1]),
                "SPANFLOW_LEDGER": str(self.ledger),
                **self.environment,
                **more,
            },
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done

    def rows(self, query: str) -> list[dict[str, Any]]:
        """Ask its ledger."""
        asked = [BIN / "spanflow", "sql", query, "--ledger", self.ledger, "--json"]
        done = subprocess.run(asked, capture_output=True, text=True, timeout=240, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


@pytest.fixture(scope="session")
def program() -> Callable[[Path, Mapping[str, str]], Program]:
    """Makes the travel agent's program for a folder and the variables it runs with."""
    return Program
