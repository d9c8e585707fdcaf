"""Environments with other people's instrumentors, and programs run in them.

Each gets a virtual environment of its own, because instrumentors share entry-point names. The
environments are kept between runs in a cache outside the repository, and brought up to date with
this checkout each time.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

ROOT = Path(__file__).parents[2]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "spanflow" / "interop"


def environment(name, packages):
    """The folder with the programs of an environment that has us and others."""
    home = CACHE / name
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    python = home / "bin" / "python"
    if not python.exists():
        make = [uv, "venv", "--python", sys.executable] if uv else [sys.executable, "-m", "venv"]
        subprocess.run([*make, str(home)], check=True)
    pip = [uv, "pip", "install", "--python", python] if uv else [python, "-m", "pip", "install"]
    ours = ["--editable", f"{ROOT}[langgraph]", "langchain>=1"]
    subprocess.run([*pip, "--quiet", *ours, *packages], check=True)
    return home / "bin"


@pytest.fixture(scope="module")
def run_beside(tmp_path_factory):
    """Run an app of ours beside other packages; gives its own books and the ledger."""
    opened = []

    def run(app, name, packages, **variables):
        programs = environment(name, packages)
        folder = tmp_path_factory.mktemp(name)
        clean = {
            variable: value
            for variable, value in os.environ.items()
            if not variable.startswith(("OTEL_", "SPANFLOW_", "PYTHON"))
        }
        ledger = folder / "traces.duckdb"
        variables = {
            **clean,
            "PATH": f"{programs}{os.pathsep}{clean['PATH']}",
            "SPANFLOW_LEDGER": str(ledger),
            "OTEL_TRACES_EXPORTER": "none",
            "OTEL_METRICS_EXPORTER": "none",
            "OTEL_LOGS_EXPORTER": "none",
            **variables,
        }
        command = [
            programs / "opentelemetry-instrument",
            programs / "python",
            ROOT / "interop" / app,
        ]
        ran = subprocess.run(
            command, env=variables, cwd=folder, capture_output=True, text=True, check=False
        )
        assert ran.returncode == 0, ran.stderr
        assert "spanflow" not in ran.stderr
        # A reading command ingests what is left before it answers.
        list_all = [programs / "spanflow", "ls"]
        subprocess.run(list_all, env=variables, cwd=folder, capture_output=True, check=True)
        opened.append(duckdb.connect(str(ledger), read_only=True))
        return json.loads(ran.stdout), opened[-1]

    yield run
    for each in opened:
        each.close()
