"""With nothing captured: nothing is raised, nothing of capture is loaded, nothing is written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = """
import asyncio, json, sys
import spanflow
{setup}
loaded = set(sys.modules)

def everything():
    with spanflow.engagement("x", id="given") as e, spanflow.step("a") as s:
        with spanflow.agent("planner", role="r") as a, spanflow.llm_call("m") as call:
            call.set_usage(input_tokens=1)
            call.set_answer(model="m2")
            call.set_messages(input="hello")
        with spanflow.tool_call("t", arguments={{}}) as tool:
            tool.set_result(1)
        spanflow.llm_call("m", input_tokens="x", nonsense=1)
        spanflow.log("x", a=1)
        spanflow.error(ValueError())
        spanflow.goal("x")
        spanflow.gave_up()
        spanflow.extraction("X", {{}})
        spanflow.pause("x")
    with spanflow.resume("given") as r, spanflow.engagement("y") as y:
        pass
    spanflow.record_llm_usage("m", input_tokens=1)
    return [e.engagement_id, e.turn_id, s.step_id, a.parent, r.engagement_id, y.engagement_id]

async def also():
    async with spanflow.engagement("x"), spanflow.step("a"), spanflow.llm_call("m"):
        return everything()

told = everything()
assert asyncio.run(also()) == told
try:
    with spanflow.engagement("x"), spanflow.step("a"), spanflow.tool_call("t"):
        raise ValueError("mine")
except ValueError as error:
    assert str(error) == "mine"
heavy = {{"langgraph", "langchain_core", "pydantic", "duckdb", "orjson", "spanflow.capture"}}
heavy |= {{"opentelemetry.sdk", "opentelemetry.util.genai", "litellm"}}
parts = {{".".join(name.split(".")[:n]) for name in set(sys.modules) - loaded for n in (1, 2, 3)}}
print(json.dumps([told, sorted(heavy & parts)]))
"""


def run(folder: Path, setup: str = "", **variables: str) -> Any:
    plain = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("SPANFLOW_", "OTEL_", "PYTEST_"))
    }
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(setup=setup)],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        cwd=folder,
        env={**plain, **variables},
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert list(folder.iterdir()) == []
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("setup", "variables"),
    [
        ("", {}),
        ("", {"SPANFLOW_LEDGER": "t.duckdb"}),
        ("spanflow.configure(enabled=False)", {"SPANFLOW_LEDGER": "t.duckdb"}),
        ("spanflow.configure()", {"SPANFLOW_LEDGER": "t.duckdb", "SPANFLOW_ENABLED": "false"}),
        ("spanflow.configure()", {"SPANFLOW_LEDGER": "t.duckdb", "OTEL_SDK_DISABLED": "true"}),
    ],
    ids=["bare", "only a variable", "in code", "by variable", "SDK disabled"],
)
def test_nothing_happens(tmp_path: Path, setup: str, variables: dict[str, str]) -> None:
    told, loaded = run(tmp_path, setup, **variables)
    assert told == ["given", None, None, None, "given", None]
    assert loaded == []


def test_after_uninstrument_nothing_more_is_written(tmp_path: Path) -> None:
    setup = "spanflow.configure(ledger=None, ingest='off'); spanflow.uninstrument()"
    told, loaded = run(tmp_path, setup)
    assert told == ["given", None, None, None, "given", None]
    assert "duckdb" not in loaded


def test_a_ledger_that_cannot_be_named_stops_nobody(tmp_path: Path) -> None:
    """The folder the program stood in is gone: its relative path cannot be made whole."""
    gone = tmp_path / "gone"
    gone.mkdir()
    code = """
import os, spanflow
os.rmdir(os.getcwd())
spanflow.configure(ledger="t.duckdb")
with spanflow.engagement("x", id="1"), spanflow.step("a"):
    spanflow.log("x")
    spanflow.pause("x")
spanflow.record_llm_usage("m", input_tokens=1)
print("ran")
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        cwd=gone,
        env={**os.environ, "OTEL_TRACES_EXPORTER": "none"},
    )
    assert (done.returncode, done.stdout) == (0, "ran\n"), done.stderr
    assert done.stderr.count("\n") <= 1
