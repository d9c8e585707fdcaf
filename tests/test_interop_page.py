"""The page about other instrumentation tells of each environment tested, and of no other."""

from __future__ import annotations

from pathlib import Path

from instrumentors import AGENTS, GRAPH, PROVIDER

PAGE = Path(__file__).parents[1] / "docs" / "interop.md"


def test_every_environment_is_told_with_who_reports_there() -> None:
    told: dict[str, set[str]] = {}
    name = ""
    for line in PAGE.read_text().splitlines():
        cells = [cell.strip() for cell in line.split("|")]
        if " by `" not in line or len(cells) != 9:
            continue
        name = cells[1] or name
        told.setdefault(name, set()).add(cells[4].split("`")[1])
    assert told == {beside.name: set(beside.scopes) for beside in (*GRAPH, *PROVIDER, *AGENTS)}
