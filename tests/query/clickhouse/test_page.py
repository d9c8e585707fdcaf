"""The page on ClickHouse tells every relation, and every question has its file."""

from __future__ import annotations

from pathlib import Path

import spanflow.query.clickhouse
from spanflow.query.clickhouse import engine

FOLDER = Path(spanflow.query.clickhouse.__file__).parent
PAGE = Path(__file__).parents[3] / "docs" / "clickhouse.md"


def test_every_relation_is_documented_and_used():
    files = {path.stem for path in (FOLDER / "base").glob("*.sql")} - {"words"}
    assert files == set(engine.RELATIONS)
    told = PAGE.read_text()
    assert [name for name in files if f"`{name}`" not in told] == []


def test_every_question_of_the_ledger_has_a_file():
    files = {path.stem for path in (FOLDER / "questions").glob("*.sql")}
    assert files == {*engine.QUESTIONS, "named", "doubtful"}
    [file] = (FOLDER.parents[1] / "ledger" / "schema").glob("*_analytics.sql")
    macros = file.read_text()
    assert [name for name in engine.QUESTIONS if f"MACRO {name}(" not in macros] == []
