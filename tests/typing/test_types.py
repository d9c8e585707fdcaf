"""What a type checker sees of the public API: right programs pass, wrong ones do not."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import spanflow

HERE = Path(__file__).parent


def checked(*files: Path) -> list[dict[str, Any]]:
    """What pyright says of these files."""
    done = subprocess.run(
        [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, *files],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    said = json.loads(done.stdout)
    assert said["summary"]["filesAnalyzed"] == len(files)
    return said["generalDiagnostics"]


def used(file: Path) -> set[str]:
    """The names that a program takes from spanflow."""
    return {
        node.attr
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "spanflow"
    }


@pytest.mark.slow
def test_the_public_api_is_typed() -> None:
    found = checked(HERE / "api.py", HERE / "wrong.py")
    assert [(each["range"]["start"]["line"] + 1, each["message"]) for each in found] == []


def test_every_public_name_is_in_that_program() -> None:
    assert used(HERE / "api.py") == set(spanflow.__all__)


def test_a_mistake_would_be_found(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "# pyright: strict\n"
        "from typing import assert_type\n"
        "import spanflow\n"
        "@spanflow.tool\n"
        "def look_up(area: str) -> int: return len(area)\n"
        "assert_type(look_up('a'), str)\n"
    )
    [found] = checked(program)
    assert found["rule"] == "reportAssertTypeFailure"
