"""The command line's frame."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata

import pytest

COMMANDS = ("demo", "ls", "run", "show", "sql", "version")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_with_an_example(spanflow, command):
    answer = spanflow(command, "--help")
    assert answer.code == 0
    assert f"Example: spanflow {command}" in " ".join(answer.out.split())


@pytest.mark.parametrize("command", ["demo", "ls", "run", "show", "sql"])
def test_every_command_about_a_ledger_takes_its_path_and_the_variable(spanflow, command):
    said = spanflow(command, "--help").out
    assert "--ledger" in said
    assert "SPANFLOW_LEDGER" in said


def test_help_names_every_command(spanflow):
    said = spanflow("--help").out
    assert all(f" {command} " in said for command in COMMANDS)


def test_version_is_the_package_s(spanflow):
    assert spanflow("version").out.strip() == metadata.version("spanflow")


def test_an_unknown_command_is_a_usage_error(spanflow):
    assert spanflow("fly").code == 2


def test_help_imports_nothing_heavy():
    heavy = {"duckdb", "langgraph", "langchain_core", "litellm", "pydantic", "opentelemetry.sdk"}
    program = f"""
import sys
sys.argv = ["spanflow", "--help"]
from spanflow.cli import main
try:
    main()
except SystemExit:
    pass
print(sorted({heavy!r} & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=240
    )
    assert done.stdout.splitlines()[-1] == "[]"
