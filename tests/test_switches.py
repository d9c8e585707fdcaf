"""Whether capture is wanted, told by variables, by code and by OpenTelemetry's own file."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from spanflow import switches
from spanflow.capture import exporter
from spanflow.capture.exporter import DuckDBSpanExporter, default_ledger

if TYPE_CHECKING:
    from pathlib import Path

CONFIGURED = """
import spanflow
spanflow.configure()
from langgraph.graph import START, StateGraph
builder = StateGraph(dict)
builder.add_node("a", lambda state: {"x": 1})
builder.add_edge(START, "a")
print(builder.compile().invoke({"x": 0}))
"""


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OTEL_SDK_DISABLED", "SPANFLOW_ENABLED", "OTEL_CONFIG_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("OTEL_TRACES_EXPORTER", raising=False)
    monkeypatch.setattr(exporter, "_made", [])


@pytest.mark.parametrize(
    ("sdk", "enabled", "given", "wanted"),
    [
        (None, None, None, True),
        ("false", None, None, True),
        (" TRUE ", None, None, False),
        ("true", "true", True, False),
        (None, "false", None, False),
        (None, " No ", None, False),
        (None, "false", True, True),
        (None, "true", False, False),
        (None, "perhaps", None, True),
        (None, "", None, True),
    ],
)
def test_what_switches_capture_off(
    monkeypatch: pytest.MonkeyPatch,
    sdk: str | None,
    enabled: str | None,
    given: bool | None,
    wanted: bool,
) -> None:
    for name, value in (("OTEL_SDK_DISABLED", sdk), ("SPANFLOW_ENABLED", enabled)):
        if value is not None:
            monkeypatch.setenv(name, value)
    assert switches.wanted(given) is wanted
    if given is None:
        assert switches.off_by_variable() is not wanted


def configured(folder: Path, text: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a program that configures spanflow in code, beside this configuration file."""
    (folder / "otel.yaml").write_text(text, "utf-8")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("OTEL_", "SPANFLOW_"))}
    return subprocess.run(
        [sys.executable, "-c", CONFIGURED],
        cwd=folder,
        env={
            **kept,
            "OTEL_CONFIG_FILE": "otel.yaml",
            "PYTHONDONTWRITEBYTECODE": "1",
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def test_in_code_a_file_names_the_exporter_too(tmp_path: Path) -> None:
    exporting = "{batch: {exporter: {duckdb: {ledger: mine.duckdb}}}}"
    done = configured(
        tmp_path, f"file_format: '1.0'\ntracer_provider: {{processors: [{exporting}]}}\n"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "{'x': 1}\n", "")
    assert (tmp_path / "mine.duckdb.d").is_dir()


def test_in_code_a_file_that_disables_leaves_no_ledger_either(tmp_path: Path) -> None:
    done = configured(
        tmp_path, "file_format: '1.0'\ndisabled: true\n", SPANFLOW_LEDGER="traces.duckdb"
    )
    assert (done.returncode, done.stdout) == (0, "{'x': 1}\n")
    assert "spanflow:" not in done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"otel.yaml"}


@pytest.mark.parametrize("text", ["nonsense", "file_format: '9.9'\n"])
def test_in_code_a_wrong_file_is_told_once_and_the_ledger_is_kept(
    tmp_path: Path, text: str
) -> None:
    done = configured(tmp_path, text, SPANFLOW_LEDGER="traces.duckdb")
    assert (done.returncode, done.stdout) == (0, "{'x': 1}\n")
    assert done.stderr.count("spanflow:") == 1
    assert (tmp_path / "traces.duckdb.d").is_dir()


def test_the_ledger_that_a_file_asks_for_is_its_exporters(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "otlp, duckdb")
    assert str(default_ledger()) == "spanflow.duckdb"
    monkeypatch.setenv("OTEL_CONFIG_FILE", "otel.yaml")
    assert default_ledger() is None
    DuckDBSpanExporter(tmp_path / "first.duckdb")
    DuckDBSpanExporter(tmp_path / "second.duckdb")
    assert default_ledger() == tmp_path / "first.duckdb"


def test_an_exporter_that_is_switched_off_takes_everything_and_keeps_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    made = DuckDBSpanExporter(tmp_path / "traces.duckdb")
    assert made.export([]).name == "SUCCESS"
    assert made.force_flush()
    made.shutdown()
    assert made.export([]).name == "FAILURE"
    assert list(tmp_path.iterdir()) == []
