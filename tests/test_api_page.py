"""The pages about the API are true: their programs print what they show; every name is told of."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import spanflow

if TYPE_CHECKING:
    from collections.abc import Callable

DOCS = Path(__file__).parents[1] / "docs"
NAMES = ("api", "decorators", "extraction", "services", "state-keys")
PAGES = {name: (DOCS / f"{name}.md").read_text(encoding="utf-8") for name in NAMES}
PAGE = PAGES["api"]
BLOCK = re.compile(r"^```python\n(.*?)^```\n(?:\n^```text\n(.*?)^```\n)?", re.MULTILINE | re.DOTALL)
BLOCKS = {name: BLOCK.findall(page) for name, page in PAGES.items()}
BETWEEN = "\N{BLACK SCISSORS}\n"
_ran: dict[str, tuple[Path, list[str]]] = {}


@pytest.fixture
def run(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, list[str]]]:
    """Run all blocks of a page as one program, once; gives its folder and what each printed."""

    def ran(page: str) -> tuple[Path, list[str]]:
        if page not in _ran:
            folder = tmp_path_factory.mktemp(page)
            _ran[page] = (folder, _printed(folder, [code for code, _ in BLOCKS[page]]))
        return _ran[page]

    return ran


def _printed(folder: Path, blocks: list[str]) -> list[str]:
    program = f"\nprint({BETWEEN!r}, end='', flush=True)\n".join(blocks)
    (folder / "page.py").write_text(program, "utf-8")
    plain = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("SPANFLOW_", "OTEL_"))
    }
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "page.py"],
        cwd=folder,
        # A client is made with this key, and asked for nothing.
        env={**plain, "PYTHONIOENCODING": "utf-8", "OPENAI_API_KEY": "none"},
        capture_output=True,
        encoding="utf-8",
        timeout=240,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split(BETWEEN)


@pytest.mark.parametrize(
    ("page", "nth"), [(page, nth) for page, blocks in BLOCKS.items() for nth in range(len(blocks))]
)
def test_a_block_prints_what_stands_below_it(
    run: Callable[[str], tuple[Path, list[str]]], page: str, nth: int
) -> None:
    assert run(page)[1][nth] == BLOCKS[page][nth][1]


def test_there_is_something_to_run() -> None:
    for name, page in PAGES.items():
        assert len(BLOCKS[name]) == page.count("```python\n") > 0
        assert sum(bool(shown) for _, shown in BLOCKS[name]) == page.count("```text\n")
    assert len(BLOCKS["api"]) > 8


def test_what_the_pages_ask_in_sql_is_answered(
    run: Callable[[str], tuple[Path, list[str]]],
) -> None:
    folder, _ = run("extraction")
    [query] = re.findall(r"```sql\n(.*?)```", PAGES["extraction"], re.DOTALL)
    with spanflow.connect(folder / "extracted.duckdb") as ledger:
        rows = list(ledger.sql(query))
    assert sorted((row["schema"], row["valid"]) for row in rows) == [
        ("BudgetInfo", "true"),
        ("Dates", "false"),
    ]


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
    for target in re.findall(r"\]\(#([^)]+)\)", PAGE):
        assert target in known, target
    for page in PAGES.values():
        for target in re.findall(r"\]\(([\w-]+\.md)\)", page):
            assert (DOCS / target).exists(), target
