"""Real servers: an OpenTelemetry Collector with the spans that arrived, and PostgreSQL."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from backends import postgres as server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

ROOT = Path(__file__).parents[2]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "spanflow"
PROGRAM = CACHE / "backends" / "otelcol-spanflow"
PATIENCE_S = 20


@dataclass(frozen=True)
class Span:
    """One span as the Collector wrote it, attributes flattened to Python values."""

    name: str
    trace_id: str
    span_id: str
    parent_span_id: str | None
    status: int
    attributes: dict[str, Any]


@dataclass(frozen=True)
class Collector:
    """Where a running Collector listens, and what it has written."""

    grpc: str
    http: str
    file: Path

    def environment(self, protocol: str) -> dict[str, str]:
        """What a user sets to send traces here, and only traces."""
        address = self.grpc if protocol == "grpc" else self.http
        return {
            "OTEL_TRACES_EXPORTER": "otlp",
            "OTEL_METRICS_EXPORTER": "none",
            "OTEL_LOGS_EXPORTER": "none",
            "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{address}",
        }

    def spans(self, at_least: int) -> dict[str, Span]:
        """All spans by id, once there are `at_least` so many; what is missing then is missing."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            spans = {span.span_id: span for span in self._read()}
            if len(spans) >= at_least or time.monotonic() > deadline:
                return spans
            time.sleep(0.1)

    def _read(self) -> Iterator[Span]:
        if not self.file.exists():
            return
        for line in self.file.read_text(encoding="utf-8").splitlines(keepends=True):
            if not line.endswith("\n"):  # still being written
                return
            for resource in json.loads(line)["resourceSpans"]:
                for scope in resource["scopeSpans"]:
                    yield from (_span(raw) for raw in scope["spans"])


def _span(raw: dict[str, Any]) -> Span:
    return Span(
        name=raw["name"],
        trace_id=raw["traceId"],
        span_id=raw["spanId"],
        parent_span_id=raw.get("parentSpanId") or None,
        status=raw.get("status", {}).get("code", 0),
        attributes={item["key"]: _value(item["value"]) for item in raw.get("attributes", ())},
    )


def _value(raw: dict[str, Any]) -> Any:
    """A value of OTLP's JSON: 64-bit integers are written as text there."""
    [(kind, value)] = raw.items()
    if kind == "intValue":
        return int(value)
    if kind == "arrayValue":
        return [_value(item) for item in value.get("values", ())]
    return value


def _free_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def _answers(address: str) -> bool:
    host, port = address.split(":")
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex((host, int(port))) == 0


@contextmanager
def _running(folder: Path) -> Iterator[Collector]:
    if not PROGRAM.exists():
        pytest.fail(f"There is no Collector at {PROGRAM}; build it with `make backends`.")
    running = Collector(_free_address(), _free_address(), folder / "spans.json")
    log = folder / "collector.log"
    with log.open("w", encoding="utf-8") as output:
        process = subprocess.Popen(
            [PROGRAM, "--config", ROOT / "collector-config" / "otlp-to-file.yaml"],
            env={
                **os.environ,
                "OTLP_GRPC": running.grpc,
                "OTLP_HTTP": running.http,
                "SPANS_FILE": str(running.file),
            },
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        deadline = time.monotonic() + PATIENCE_S
        while not (_answers(running.grpc) and _answers(running.http)):
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"The Collector did not start:\n{log.read_text(encoding='utf-8')}")
            time.sleep(0.1)
        yield running
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


@pytest.fixture(scope="session")
def start_collector() -> Callable[[Path], AbstractContextManager[Collector]]:
    """Starts a Collector which writes into a folder, as a context manager."""
    return _running


@pytest.fixture(scope="session")
def postgres() -> Callable[[], AbstractContextManager[str]]:
    """Starts a PostgreSQL server, as a context manager that gives its address."""
    return server.serving
