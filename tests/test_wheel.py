"""What is built and installed is whole: SQL, types, the demo's agent and the entry points."""

from __future__ import annotations

import configparser
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "wheel", ROOT, "--quiet", "--no-deps"),
            *("--no-build-isolation", "--wheel-dir", folder),
        ],
        check=True,
        timeout=240,
    )
    [built] = folder.glob("spanflow-*.whl")
    with zipfile.ZipFile(built) as archive:
        yield archive


def test_every_source_file_is_in_the_wheel(wheel):
    sources = {
        path.relative_to(SOURCE).as_posix()
        for path in SOURCE.rglob("*")
        if path.is_file() and path.suffix in {".py", ".sql", ".typed"}
    }
    assert {"spanflow/py.typed", "spanflow/ledger/schema/0001_tables.sql"} <= sources
    assert sources <= set(wheel.namelist())


def test_the_demo_brings_its_agent_as_it_stands(wheel):
    agent = (ROOT / "examples" / "booking_agent.py").read_bytes()
    assert wheel.read("spanflow/_demo/booking_agent.py") == agent


def test_opentelemetry_and_the_shell_find_us(wheel):
    [name] = [name for name in wheel.namelist() if name.endswith("entry_points.txt")]
    entries = configparser.ConfigParser()
    entries.read_string(wheel.read(name).decode())
    assert {section: dict(entries[section]) for section in entries.sections()} == {
        "console_scripts": {"spanflow": "spanflow.cli:main"},
        "opentelemetry_instrumentor": {"spanflow": "spanflow.setup:SpanflowInstrumentor"},
        "opentelemetry_traces_exporter": {"duckdb": "spanflow.capture.exporter:DuckDBSpanExporter"},
    }
