"""The README is run: its commands, its programs, its SQL, and the output that it shows.

How blocks are read: `bash` is run in one folder, in order; `python` under a comment
`<!-- name.py -->` is written to that file first; `sql` is asked of the demo's ledger; `console` is
a command and its real output; `sh` is run by the gate itself and only has to exist.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BIN = Path(sys.executable).parent

_BLOCK = re.compile(r"(?:<!-- (?P<file>\S+) -->\n)?```(?P<kind>\w+)\n(?P<text>.*?)```", re.DOTALL)
BLOCKS = [(match["kind"], match["file"], match["text"]) for match in _BLOCK.finditer(README)]
_DURATION = re.compile(r"[\d.]+ (?:ms|s)\b|(?<= )  +(?=[\d.]+ (?:ms|s))")


def _of_kind(kind: str) -> list[str]:
    return [text for it, _, text in BLOCKS if it == kind]


def _environment(**more: str) -> dict[str, str]:
    ours = {name: value for name, value in os.environ.items() if not name.startswith("SPANFLOW_")}
    return {
        **ours,
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "1",  # no Collector listens here; do not wait for it
        **more,
    }


def _run(command, folder, **more: str) -> str:
    done = subprocess.run(
        command,
        cwd=folder,
        env=_environment(**more),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The folder of the console blocks' first command, and what that printed."""
    folder = tmp_path_factory.mktemp("demo")
    return folder, _run(["spanflow", "demo"], folder)


def test_it_is_short_and_every_block_is_understood():
    assert len(README.splitlines()) < 250
    assert {kind for kind, _, _ in BLOCKS} <= {"bash", "console", "python", "sh", "sql"}
    assert all(file for kind, file, _ in BLOCKS if kind == "python")


def test_commands_and_programs_work_as_written(tmp_path):
    for _, file, text in BLOCKS:
        if file:
            (tmp_path / file).write_text(text, encoding="utf-8")
    printed = [
        _run(["bash", "-euo", "pipefail", "-c", block], tmp_path) for block in _of_kind("bash")
    ]
    assert "helper" in printed[1]  # `spanflow ls` after `spanflow run app.py`
    [looked] = [
        text for text in printed if text.startswith("bob solved 52\nada answer 18\nada None 18\n")
    ]
    assert [line.split()[0] for line in looked.splitlines()[4:6]] == ["ask", "answer"]
    assert list((tmp_path / "out" / "turns").rglob("*.parquet")), "exported"
    assert (tmp_path / "traces.duckdb.audit.ndjson").exists()
    rows = json.loads(
        _run(
            ["spanflow", "sql", "SELECT status, goal, turns, steps FROM engagements", "--json"],
            tmp_path,
        )
    )
    assert sorted(rows, key=str) == [
        {"status": "completed", "goal": goal, "turns": turns, "steps": steps}
        for goal, turns, steps in (("answer", 2, 3), ("solved", 1, 2), (None, 2, 3))
    ]


def test_the_demo_prints_what_is_shown(demo):
    _, printed = demo
    shown = _console("spanflow demo")
    assert _comparable(shown) <= _comparable(printed.splitlines())


def test_other_commands_print_what_is_shown(demo):
    folder, _ = demo
    funnel = "spanflow funnel intake search confirm pay submitted --idle-after 0s"
    assert _run(funnel.split(), folder).splitlines() == _console(funnel)

    [shown] = [text for text in _of_kind("console") if text.startswith("$ spanflow show")]
    newest = json.loads(_run(["spanflow", "ls", "--limit", "1", "--json"], folder))[0]
    tree = _run(["spanflow", "show", newest["engagement_id"]], folder)
    says = set(re.findall(r"── (turn \d \w+|\w+ \w+|goal \w+)", shown))
    assert says
    assert {words for words in says if words not in tree} == set()


def test_every_query_answers(demo):
    folder, _ = demo
    for query in _of_kind("sql"):
        assert json.loads(_run(["spanflow", "sql", query, "--json"], folder)), query


def test_every_make_target_exists():
    targets = re.findall(r"\bmake ([\w-]+)", "".join(_of_kind("sh")))
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert targets
    assert [name for name in targets if not re.search(rf"^{name}:", makefile, re.MULTILINE)] == []


def test_every_link_leads_somewhere():
    links = re.findall(r"\]\((?!https?:)([^)#]+)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def _console(command: str) -> list[str]:
    for text in _of_kind("console"):
        first, *rest = text.splitlines()
        if first == f"$ {command}":
            return rest
    pytest.fail(f"the README shows no `{command}`")


def _comparable(lines) -> set[str]:
    """Lines without what differs from run to run: durations, and the room they take."""
    return {" ".join(_DURATION.sub("", line).split()) for line in lines if line.strip()}
