"""The recipe book is true: its queries print what it shows, and it tells of every question all."""

from __future__ import annotations

import csv
import io
import re
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest
from analytics.recipes import BOOK, ask, make_ledger, masked, recipes, table

pytestmark = pytest.mark.slow

TEXT = BOOK.read_text("utf-8")
RECIPES = recipes(TEXT)
COMMON = ["since", "until", "name", "user_id", "metadata", "as_of", "idle_after"]
QUESTIONS = re.findall(r"^### `(\w+)`$", TEXT, re.MULTILINE)


@pytest.fixture(scope="module")
def ledger_of_the_book(tmp_path_factory):
    return make_ledger(TEXT, tmp_path_factory.mktemp("book"))


@pytest.fixture(scope="module")
def answers(ledger_of_the_book):
    return ask(ledger_of_the_book, [query for query, _ in RECIPES])


@pytest.mark.parametrize("nth", range(len(RECIPES)), ids=lambda nth: RECIPES[nth][0][:60].strip())
def test_a_recipe_prints_what_the_book_says_where_spanflow_is_not_there(answers, nth):
    printed = RECIPES[nth][1]
    if printed is not None:
        assert masked(table(*answers[nth])) == masked(printed)


def test_every_question_has_a_recipe_that_prints_something():
    printing = " ".join(query for query, printed in RECIPES if printed)
    assert len(QUESTIONS) > 10
    assert [name for name in QUESTIONS if f"FROM {name}(" not in printing] == []


def section(name):
    found = re.search(rf"^### `{name}`\n(.*?)(?=^### |\Z)", TEXT, re.MULTILINE | re.DOTALL)
    assert found, f"docs/analytics.md says nothing of {name}"
    return found[1]


def told_in(text, kind):
    """Return the names in the first column of a table, in order."""
    rows = re.search(rf"^\| {kind} \|.*\n\|[-|]+\|\n((?:\|.*\n?)*)", text, re.MULTILINE)
    cells = [line.split("|")[1] for line in rows[1].splitlines()] if rows else []
    return [name for cell in cells for name in re.findall(r"`(\w+)`", cell)]


@pytest.fixture(scope="module")
def macros(ledger_of_the_book):
    """The table macros of the file that take the common parameters by name, with all of theirs."""
    with duckdb.connect(str(ledger_of_the_book), read_only=True) as connection:
        found = connection.execute(
            "SELECT function_name, parameters FROM duckdb_functions() "
            "WHERE function_type = 'table_macro' AND NOT internal"
        ).fetchall()
        described = {}
        for name, parameters in found:
            required = {"funnel": "['a']", "funnel_engagements": "['a']", "usage_by": "'model'"}
            required |= {"engagements_by": "'status'", "compare": "{}, {}"}
            if set(COMMON) <= set(parameters) and name in QUESTIONS:
                columns = connection.execute(f"DESCRIBE FROM {name}({required.get(name, '')})")
                described[name] = (parameters, [row[0] for row in columns.fetchall()])
        return described, {name for name, parameters in found if set(COMMON) <= set(parameters)}


def test_the_book_tells_of_every_question(macros):
    described, all_of_them = macros
    assert set(described) == set(QUESTIONS)
    assert len(QUESTIONS) == len(set(QUESTIONS))
    # These are what the questions are made of.
    assert all_of_them - set(QUESTIONS) == {"calls_by", "chosen", "comers", "returning_users"}


@pytest.mark.parametrize("name", QUESTIONS)
def test_every_parameter_and_column_is_told_once(macros, name):
    parameters, columns = macros[0][name]
    own = [one for one in parameters if one not in COMMON]
    told = told_in(section(name), "parameter")
    assert sorted(told) == sorted(own)
    assert sorted(told_in(section(name), "column")) == sorted(columns)


def test_the_common_parameters_are_told_once():
    shared = TEXT[TEXT.index("### Parameters that every question takes") :]
    assert told_in(shared, "parameter") == COMMON


@pytest.mark.parametrize("nth", range(0, len(RECIPES), 5))
def test_the_plain_shell_prints_the_same(ledger_of_the_book, answers, nth):
    done = subprocess.run(
        [
            Path(sys.executable).with_name("duckdb"),
            "-readonly",
            "-csv",
            "-nullvalue",
            "",
            str(ledger_of_the_book),
        ],
        input=RECIPES[nth][0],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    columns, rows = answers[nth]
    shown = list(csv.reader(io.StringIO(done.stdout)))
    assert shown[0] == columns
    for line, row in zip(shown[1:], rows, strict=True):
        for cell, value in zip(line, row, strict=True):
            if isinstance(value, float):
                assert float(cell) == pytest.approx(value)
            elif not isinstance(value, list):
                assert cell == ("" if value is None else str(value))


def test_links_lead_somewhere():
    anchors = {
        re.sub(r"[^\w\- ]", "", line.lstrip("# ").lower()).replace(" ", "-")
        for page in (BOOK, BOOK.with_name("ledger.md"))
        for line in page.read_text("utf-8").splitlines()
        if line.startswith("#")
    }
    for target in re.findall(r"\]\(([^)]+)\)", TEXT):
        page, _, anchor = target.partition("#")
        assert not anchor or anchor in anchors, target
        assert not page or BOOK.with_name(page).is_file(), target
