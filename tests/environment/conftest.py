"""Runs the cells of the matrix, two at a time, each once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from environment.cells import CELLS
from environment.receiver import Receiver, receiving
from ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
LAUNCHER = Path(sys.executable).with_name("opentelemetry-instrument")
OTHER = """
from opentelemetry import trace
from opentelemetry.instrumentation.instrumentor import BaseInstrumentor

class Other(BaseInstrumentor):
    def instrumentation_dependencies(self):
        return ()
    def _instrument(self, **kwargs):
        trace.get_tracer("other").start_span("other").end()
    def _uninstrument(self, **kwargs):
        pass
"""


@dataclass(frozen=True)
class Run:
    """What one cell gave."""

    folder: Path
    done: subprocess.CompletedProcess[str]
    received: Receiver
    loaded: set[str]
    took_s: float
    refreshed: set[str] = field(default_factory=set)

    @property
    def files(self) -> set[str]:
        """Names of what lies where it ran."""
        return {path.name for path in self.folder.iterdir()}

    def ask(self, ledger: str, query: str) -> list[tuple[Any, ...]]:
        """Ask a ledger for everything that the process left."""
        import duckdb

        from spanflow.ledger.publish import refresh

        if ledger not in self.refreshed:
            # On a busy machine the process may leave before it has loaded its last records.
            refresh(self.folder / ledger)
            self.refreshed.add(ledger)
        with duckdb.connect(str(self.folder / ledger), read_only=True) as connection:
            return connection.execute(query).fetchall()


class Runs:
    """The cells' runs; those that are wanted are begun before anybody waits for one."""

    def __init__(self, folder: Path, wanted: list[str], pool: ThreadPoolExecutor) -> None:
        self.folder = folder
        self.beside = _another_instrumentor(folder / "beside")
        self.pool = pool
        self.begun: dict[str, Future[Run]] = {}
        for name in wanted:
            self._begin(name)

    def __getitem__(self, name: str) -> Run:
        return self._begin(name).result()

    def _begin(self, name: str) -> Future[Run]:
        if name not in self.begun:
            self.begun[name] = self.pool.submit(self._run, name)
        return self.begun[name]

    def _run(self, name: str) -> Run:
        cell = CELLS[name]
        place = self.folder / str(list(CELLS).index(name))
        folder = place / "cwd"
        folder.mkdir(parents=True)
        command = [LAUNCHER] if cell.launched else []
        with receiving() as received:
            known = {
                "GRPC_ADDRESS": received.grpc,
                "HTTP_ADDRESS": received.http,
                "DEAD_ADDRESS": f"127.0.0.1:{free_port()}",
                "CONFIG_FILE_PATH": str(place / "otel.yaml"),
            }
            (place / "otel.yaml").write_text(_filled(cell.file, known), "utf-8")
            done = subprocess.run(
                [*command, sys.executable, HERE / "app.py"],
                cwd=folder,
                env={
                    **_bare(),
                    "PYTHONPATH": str(self.beside),
                    "AGENT": str(HERE.parents[1] / "examples" / "booking_agent.py"),
                    "SEEN": str(place / "seen.json"),
                    **{k: _filled(v, known) for k, v in cell.variables.items()},
                },
                capture_output=True,
                text=True,
                timeout=240,
                check=False,
            )
        assert done.returncode == 0, done.stderr
        seen = json.loads((place / "seen.json").read_text("utf-8"))
        return Run(folder, done, received, set(seen["loaded"]), seen["took_s"])


def _bare() -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("OTEL_", "SPANFLOW_"))}
    quiet = {"OTEL_METRICS_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none"}
    return {**kept, **quiet, "PYTHONDONTWRITEBYTECODE": "1"}


def _filled(text: str, known: dict[str, str]) -> str:
    for holder, value in known.items():
        text = text.replace(holder, value)
    return text


def _another_instrumentor(folder: Path) -> Path:
    """Install somebody else's instrumentor, which makes one span when it is switched on."""
    told = folder / "other-1.dist-info"
    told.mkdir(parents=True)
    (folder / "other_instrumentor.py").write_text(OTHER, "utf-8")
    (told / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 1\n", "utf-8")
    entry = "[opentelemetry_instrumentor]\nother = other_instrumentor:Other\n"
    (told / "entry_points.txt").write_text(entry, "utf-8")
    return folder


@pytest.fixture(scope="session")
def runs(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Runs]:
    """The runs by the names of their cells."""
    wanted = [
        item.callspec.params["name"]
        for item in request.session.items
        if isinstance(item, pytest.Function)
        and hasattr(item, "callspec")
        and item.callspec.params.get("name") in CELLS
    ]
    with ThreadPoolExecutor(2) as pool:
        yield Runs(tmp_path_factory.mktemp("environment"), wanted, pool)
