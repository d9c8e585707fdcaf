"""The page about the API is true: its program prints what it shows, and it tells of every name."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import spanflow

PAGE = (Path(__file__).parents[1] / "docs" / "api.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```python\n(.*?)^```\n(?:\n^```text\n(.*?)^```\n)?", re.MULTILINE | re.DOTALL)
BLOCKS = BLOCK.findall(PAGE)
BETWEEN = "\N{BLACK SCISSORS}\n"


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What each block prints, all run as one program in the order of the page."""
    folder = tmp_path_factory.mktemp("page")
    program = f"\nprint({BETWEEN!r}, end='', flush=True)\n".join(code for code, _ in BLOCKS)
    (folder / "page.py").write_text(program, "utf-8")
    plain = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("SPANFLOW_", "OTEL_"))
    }
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "page.py"],
        cwd=folder,
        env={**plain, "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        encoding="utf-8",
        timeout=110,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split(BETWEEN)


@pytest.mark.parametrize("nth", range(len(BLOCKS)))
def test_a_block_prints_what_stands_below_it(printed: list[str], nth: int) -> None:
    assert printed[nth] == BLOCKS[nth][1]


def test_there_is_something_to_run() -> None:
    assert len(BLOCKS) == PAGE.count("```python\n") > 8
    assert sum(bool(shown) for _, shown in BLOCKS) == PAGE.count("```text\n") > 6


@pytest.mark.parametrize("name", spanflow.__all__)
def test_every_name_is_on_the_page(name: str) -> None:
    tables = [line for line in PAGE.splitlines() if line.startswith("| ")]
    assert any(f"`{name}`" in line.split("|")[1] for line in tables) or any(
        f"`{name}(" in line or f"`{name}`" in line for line in tables
    )


def test_links_lead_somewhere() -> None:
    def anchor(heading: str) -> str:
        return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")

    known = {anchor(line.lstrip("# ")) for line in PAGE.splitlines() if line.startswith("#")}
    known |= set(re.findall(r'<a id="([^"]+)">', PAGE))
    for target in re.findall(r"\]\(#([^)]+)\)", PAGE):
        assert target in known, target
    for target in re.findall(r"\]\(([\w-]+\.md)\)", PAGE):
        assert (Path(__file__).parents[1] / "docs" / target).exists(), target
