"""The command line in a terminal of 80 columns, and a ledger to look at."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from spanflow.cli import main
from spanflow.ledger.journal import Journal

if TYPE_CHECKING:
    from collections.abc import Iterator

RECORDS = Path(__file__).parents[1] / "journeys" / "three.ndjson"


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Path]:
    """A booking with a pause, an order that failed under a nasty name, and one still running."""
    path = tmp_path / "traces.duckdb"
    journal = Journal(path)
    for line in RECORDS.read_text(encoding="utf-8").splitlines():
        assert journal.append(json.loads(line))
    journal.seal()
    yield path
    # Open until here: what a process that is gone had begun counts as interrupted.
    journal.close()


@dataclass(frozen=True)
class Answer:
    """What a command said, and how it ended."""

    out: str
    err: str
    code: int

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


@pytest.fixture
def spanflow(capsys, monkeypatch):
    """Run the command line in this process, in a terminal of 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("SPANFLOW_LEDGER", raising=False)

    def call(*arguments: object) -> Answer:
        monkeypatch.setattr(sys, "argv", ["spanflow", *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as ended:
            code = int(ended.code or 0)
        said = capsys.readouterr()
        return Answer(said.out, said.err, code)

    return call
