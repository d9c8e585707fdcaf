"""`spanflow export`: what was written is told, and where to read it."""

from __future__ import annotations

import json

import duckdb

from spanflow.ledger.journal import Journal


def test_export_tells_what_it_wrote(spanflow, ledger, tmp_path):
    answer = spanflow("export", "--parquet", tmp_path / "lake", "--ledger", ledger)
    assert (answer.code, answer.err) == (0, "")
    assert answer.lines[1].split() == ["engagements", "3", "1"]
    query = answer.lines[-1].removeprefix("Read it: ")
    with duckdb.connect() as connection:
        assert len(connection.execute(query).fetchall()) == 4


def test_export_as_json_and_by_day(spanflow, ledger, tmp_path):
    options = ("--parquet", tmp_path / "lake", "--ledger", ledger, "--json")
    told = json.loads(spanflow("export", *options, "--since", "2026-11-19").out)
    assert told["views"]["engagements"] == {"rows": 0, "files": 0}
    told = json.loads(spanflow("export", *options, "--until", "2026-11-18").out)
    assert told["views"]["engagements"] == {"rows": 3, "files": 1}
    assert spanflow("export", *options, "--since", "yesterday").code == 2


def test_export_of_nothing_says_so(spanflow, tmp_path):
    journal = Journal(tmp_path / "empty.duckdb")
    journal.append({"kind": "graph", "graph_version": "a"})
    journal.close()
    answer = spanflow(
        "export", "--parquet", tmp_path / "lake", "--ledger", tmp_path / "empty.duckdb"
    )
    assert (answer.code, answer.out) == (
        0,
        f"{tmp_path}/empty.duckdb holds nothing yet; nothing was written.\n",
    )
