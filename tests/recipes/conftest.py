"""Real servers in processes of their own, and the ledger they leave behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

RECIPES = Path(__file__).parents[2] / "examples" / "recipes"
BIN = Path(sys.executable).parent
PATIENCE_S = 120


@dataclass(frozen=True)
class Recipe:
    """A folder to run in, with the ledger that the recipe's program writes."""

    ledger: Path

    @property
    def environment(self) -> dict[str, str]:
        """Capture on, exporters off, the recipes importable."""
        return {
            **os.environ,
            "PYTHONPATH": str(RECIPES),
            "SPANFLOW_LEDGER": str(self.ledger),
            "OTEL_TRACES_EXPORTER": "none",
            "OTEL_METRICS_EXPORTER": "none",
            "OTEL_LOGS_EXPORTER": "none",
        }

    def rows(self, query: str) -> list[dict[str, Any]]:
        """What `spanflow sql` answers, as a user would ask."""
        done = subprocess.run(
            [BIN / "spanflow", "sql", query, "--ledger", self.ledger, "--json"],
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    @contextmanager
    def serving(self, *command: str) -> Iterator[str]:
        """Run a server under auto-instrumentation, and stop it with SIGTERM.

        Args:
            command: The server's command line, with `{port}` where the port goes.

        Yields:
            The base URL.
        """
        port = free_port()
        log = self.ledger.with_name("server.log")
        with log.open("w", encoding="utf-8") as output:
            server = subprocess.Popen(
                [
                    BIN / "opentelemetry-instrument",
                    BIN / command[0],
                    *(part.format(port=port) for part in command[1:]),
                ],
                cwd=self.ledger.parent,
                env=self.environment,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            deadline = time.monotonic() + PATIENCE_S
            while not _answers(port):
                if server.poll() is not None or time.monotonic() > deadline:
                    pytest.fail(f"The server did not start:\n{log.read_text(encoding='utf-8')}")
                time.sleep(0.1)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(PATIENCE_S)
        assert "Traceback" not in log.read_text(encoding="utf-8")


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def recipe(tmp_path) -> Recipe:
    return Recipe(tmp_path / "traces.duckdb")
