"""Every public name has an example in its docstring, and it runs: captured, or with nothing on."""

from __future__ import annotations

import doctest
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

import spanflow

if TYPE_CHECKING:
    from pathlib import Path

DESK = """
import spanflow
spanflow.configure(ledger="desk.duckdb")
with spanflow.engagement("support", id="case-17", user_id="ada"):
    with spanflow.step("triage"):
        spanflow.llm_call("gpt-5-mini", input_tokens=120, output_tokens=30)
    with spanflow.step("answer"):
        spanflow.goal("solved")
"""
RUN = """
import doctest, json, sys
import spanflow
setup, names = json.loads(sys.argv[1])
failed = {}
for name in names:
    exec(setup)
    finder = doctest.DocTestFinder(recurse=False)
    [found] = finder.find(getattr(spanflow, name), name, globs={})
    told = []
    result = doctest.DocTestRunner(optionflags=doctest.FAIL_FAST).run(found, out=told.append)
    if result.failed or not result.attempted:
        failed[name] = "".join(told) or "no example"
    spanflow.uninstrument()
print(json.dumps(failed))
"""
SETUPS = {
    "captured": "spanflow.configure(ledger='traces.duckdb', ingest='off')",
    "nothing on": "",
}


def run(folder: Path, code: str, *arguments: str) -> str:
    plain = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("SPANFLOW_", "OTEL_"))
    }
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *arguments],
        cwd=folder,
        env=plain,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def failed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """What the examples that did not run said, by how spanflow was set up."""
    folder = tmp_path_factory.mktemp("desk")
    run(folder, DESK)
    return {
        title: json.loads(run(folder, RUN, json.dumps([setup, spanflow.__all__])).splitlines()[-1])
        for title, setup in SETUPS.items()
    }


@pytest.mark.parametrize("setup", SETUPS)
@pytest.mark.parametrize("name", spanflow.__all__)
def test_its_example_runs(failed: dict[str, dict[str, str]], name: str, setup: str) -> None:
    assert failed[setup].get(name) is None


@pytest.mark.parametrize("name", spanflow.__all__)
def test_its_example_is_short_and_stands_alone(name: str) -> None:
    [found] = doctest.DocTestFinder(recurse=False).find(getattr(spanflow, name), name)
    assert found.examples[0].source == "import spanflow\n"
    assert len(found.examples) <= 12
