"""The page about asking is true: its programs run, its table is printed, nothing is left out."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from PIL import Image
from typer.main import get_command

from spanflow.cli.app import app
from spanflow.query.pictures import DRAWN
from spanflow.query.questions import Chosen, Questions
from spanflow.query.rows import Row

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "asking.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    spanflow(folder, "demo", "--ledger", "demo.duckdb", "--json")
    return folder


def spanflow(folder, *arguments):
    command = [sys.executable, "-c", "from spanflow.cli import main; main()", *arguments]
    return run(folder, command)


def run(folder, command):
    environment = {**os.environ, "COLUMNS": "80", "SPANFLOW_LEDGER": "demo.duckdb"}
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def blocks(kind):
    return re.findall(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL)


def test_the_programs_run_as_they_stand(demo):
    first, second = [run(demo, [sys.executable, "-c", code]) for code in blocks("python")]
    assert first.splitlines()[0].startswith("step")
    assert len(re.findall(r"^[0-9a-f-]{36} [0-9a-f]{32}$", first, re.MULTILINE)) >= 1
    assert "engagements    47" in second
    assert (demo / "paths.png").stat().st_size > 10_000


def test_the_funnel_is_printed_as_it_is_shown(demo):
    [shown] = blocks("console")
    command, *table = shown.splitlines()
    later = f"{datetime.now(UTC) + timedelta(days=1):%Y-%m-%d}T23:00"
    asked = [word if word != "2026-11-22" else later for word in command.split()[2:]]
    assert [line.rstrip() for line in spanflow(demo, *asked).splitlines()] == table
    assert (demo / "funnel.png").exists()


def test_every_command_and_option_of_a_question_is_documented():
    commands = get_command(app).commands
    questions = {
        name: command
        for name, command in commands.items()
        if "idle_after" in {one.name for one in command.params}
    }
    assert len(questions) == 7
    for name, command in questions.items():
        assert f"`spanflow {name}" in PAGE
        for option in command.params:
            for said in option.opts:
                if said.startswith("--") and said not in {"--ledger", "--help", "--limit"}:
                    assert said in PAGE, (name, said)


def test_every_question_and_row_is_documented():
    for name, method in inspect.getmembers(Questions, inspect.isfunction):
        if not name.startswith("_"):
            assert f"`{name}(" in PAGE
            for parameter in inspect.signature(method).parameters:
                assert parameter in {"self", "chosen"} or parameter in PAGE
    for name in Chosen.__annotations__:
        assert f"`{name}`" in PAGE
    for model in Row.__subclasses__():
        assert f"`{model.__name__}`" in PAGE


def test_every_picture_is_documented_and_those_shown_are_small():
    drawn = PAGE.partition("| `.plot()` of |")[2]
    assert set(re.findall(r"`(\w+)`", drawn)) >= set(DRAWN)
    for name in re.findall(r"\]\((pictures/[^)]+)\)", PAGE):
        assert (DOCS / name).stat().st_size < 150_000
        with Image.open(DOCS / name) as picture:
            picture.verify()
