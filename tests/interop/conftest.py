"""Environments with other people's instrumentors, and programs run in them.

Each gets a virtual environment of its own, because instrumentors share entry-point names. The
environments are kept between runs in a cache outside the repository, and brought up to date with
this checkout each time. What was seen in each goes to that cache, too: `interop/matrix.py` makes
the page of it.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

ROOT = Path(__file__).parents[2]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "spanflow" / "interop"
OURS = ("langgraph", "langchain-core", "opentelemetry-sdk")

REPORTED = """
    SELECT
        scope,
        count(*) AS calls,
        count(*) FILTER (counted) AS counted,
        count(step_id) AS in_step,
        count(input_tokens) > 0 AS input_tokens,
        count(output_tokens) > 0 AS output_tokens,
        count(cache_read_tokens) > 0 AS cache_read_tokens,
        count(reasoning_tokens) > 0 AS reasoning_tokens,
        count(cost_usd) > 0 AS cost_usd,
        count(time_to_first_token_ms) > 0 AS time_to_first_token_ms
    FROM llm_calls GROUP BY scope ORDER BY scope
"""


def environment(name, packages):
    """The folder with the programs of an environment that has us and others."""
    home = CACHE / name
    python = home / "bin" / "python"
    if subprocess.run([python, "-c", ""], check=False).returncode if python.exists() else True:
        subprocess.run([sys.executable, "-m", "venv", "--clear", "--without-pip", home], check=True)
    # Our own pip fills it: one that another installer made, or a cut-off run, may have none.
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet"]
    ours = ["--editable", f"{ROOT}[langgraph]", "langchain>=1"]
    subprocess.run([*pip, *ours, *packages], check=True)
    return home / "bin"


def versions(programs, names):
    """The versions of some packages in an environment."""
    ask = (
        "import json, sys; from importlib.metadata import version;"
        "print(json.dumps({name: version(name) for name in sys.argv[1:]}))"
    )
    command = [programs / "python", "-c", ask, *names]
    told = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(told.stdout)


@pytest.fixture(scope="module")
def run_beside(tmp_path_factory):
    """Run an app of ours beside other packages; gives its own books and the ledger."""
    opened = []

    def run(beside):
        programs = environment(beside.environment, beside.packages)
        folder = tmp_path_factory.mktemp(beside.environment)
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
            **beside.variables,
        }
        launcher = () if beside.is_later else (programs / "opentelemetry-instrument",)
        command = [*launcher, programs / "python", ROOT / "interop" / beside.app]
        ran = subprocess.run(
            command, env=variables, cwd=folder, capture_output=True, text=True, check=False
        )
        assert ran.returncode == 0, ran.stderr
        assert "spanflow" not in ran.stderr
        # A reading command ingests what is left before it answers.
        list_all = [programs / "spanflow", "ls"]
        subprocess.run(list_all, env=variables, cwd=folder, capture_output=True, check=True)
        opened.append(duckdb.connect(str(ledger), read_only=True))
        if not beside.is_later:
            note(beside, programs, opened[-1])
        return json.loads(ran.stdout.splitlines()[-1]), opened[-1]

    yield run
    for each in opened:
        each.close()


def pytest_generate_tests(metafunc):
    """Run what asks for an outcome beside each of those that its module names."""
    besides = getattr(metafunc.module, "BESIDE", ())
    if besides and "outcome" in metafunc.fixturenames:
        named = [beside.name for beside in besides]
        metafunc.parametrize("outcome", besides, ids=named, indirect=True, scope="module")


@pytest.fixture(scope="module")
def outcome(request, run_beside):
    """Who stands beside us, the app's own books, and the ledger."""
    return request.param, *run_beside(request.param)


def note(beside, programs, ledger):
    """Write down what was seen."""
    names = [re.split(r"[\[<>=]", package)[0] for package in beside.packages]
    reported = ledger.sql(REPORTED)
    seen = {
        "name": beside.name,
        "app": beside.app,
        "versions": versions(programs, names),
        "ours": versions(programs, OURS),
        "scopes": [dict(zip(reported.columns, row, strict=True)) for row in reported.fetchall()],
        "because": ledger.sql(
            "SELECT DISTINCT not_counted_because FROM llm_calls WHERE NOT counted ORDER BY ALL"
        ).fetchall(),
    }
    folder = CACHE / "seen"
    folder.mkdir(exist_ok=True)
    (folder / f"{beside.name}.json").write_text(json.dumps(seen, indent=1))
