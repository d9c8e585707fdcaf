"""`ls`, `show` and `sql`: what a person sees, and what a machine gets."""

from __future__ import annotations

import json

import pytest
from rich.cells import cell_len

from spanflow.ledger.journal import Journal

BOOKING = "01936c2a-7f3e-7c11-9b7e-4f1c09d2ab7e"


def test_ls_lists_the_newest_first_in_80_columns(spanflow, ledger):
    answer = spanflow("ls", "--ledger", ledger)
    assert answer.code == 0
    assert [line.rstrip() for line in answer.lines] == [
        "id            name         status     turns  steps  tokens     cost  started UTC",
        "000000000003  booking      active         1      1       –        –  11-18 11:11",
        "order-[bold]  [red]エン …  failed         1      1       2        –  11-18 11:10",
        "4f1c09d2ab7e  booking      completed      2      7     124  $0.0004  11-18 11:06",
    ]
    assert max(map(cell_len, answer.lines)) <= 80


def test_ls_shows_some(spanflow, ledger):
    assert len(spanflow("ls", "--ledger", ledger, "--limit", 1).lines) == 2
    failed = spanflow("ls", "--ledger", ledger, "--status", "failed")
    assert "order" in failed.lines[1]
    none = spanflow("ls", "--ledger", ledger, "--status", "paused")
    assert (none.code, none.out) == (0, "No engagements are paused.\n")


def test_ls_as_json_is_json_alone(spanflow, ledger):
    rows = json.loads(spanflow("ls", "--ledger", ledger, "--json").out)
    assert [row["engagement_id"] for row in rows][-1] == BOOKING
    assert rows[-1]["usage"]["total_tokens"] == 124
    assert rows[-1]["metadata"] == {"plan": "pro", "tries": 1, "a/b": "deep"}
    assert rows[0]["usage"]["total_tokens"] is None


def test_ls_refuses_a_status_there_is_not(spanflow, ledger):
    answer = spanflow("ls", "--ledger", ledger, "--status", "lost")
    assert answer.code == 2
    assert "abandoned" in answer.err


def test_show_draws_the_journey(spanflow, ledger):
    answer = spanflow("show", "4f1c09d2ab7e", "--ledger", ledger)
    assert (
        answer.out
        == """\
booking 01936c2a-7f3e-7c11-9b7e-4f1c09d2ab7e completed
├── started: 2026-11-18 11:06:40 UTC
├── time: 80 ms working, 3.0 min waiting
├── usage: 94 → 30 tokens · $0.0004 · 2 model calls · 2 tool calls · 1 error
├── goal: submitted
├── user id: u1
├── session id: s1
├── conversation id: thread-1
├── metadata: {"plan": "pro", "tries": 1, "a/b": "deep"}
├── turn 1 new paused · 70 ms · 124 tokens · $0.0004
│   ├── intake completed · 8.0 ms · 40 tokens · $0.0004
│   │   └── chat desk-large · 30 → 10 tokens · $0.0004 · 6.0 ms
│   ├── search completed · 50 ms · 84 tokens
│   │   ├── think completed · 9.0 ms · 84 tokens
│   │   │   └── chat desk-large · 64 → 20 tokens · 7.0 ms
│   │   └── look_up completed · 37 ms · 2 attempts
│   │       ├── tool search_rooms · 8.0 ms ServiceTimeoutError
│   │       ├── error ServiceTimeoutError {"message": "rooms in Ueno did not an…
│   │       └── tool search_rooms · 17 ms {"area": "Ueno"} → ["Park Side"]
│   └── confirm waiting · 4.0 ms · waited 3.0 min for confirmation
└── turn 2 resume completed · 10 ms
    ├── confirm completed · 3.0 ms
    └── submitted completed · 3.0 ms
"""
    )


def test_show_survives_control_characters_markup_and_wide_text(spanflow, ledger):
    answer = spanflow("show", "order", "--ledger", ledger)
    assert answer.code == 0
    assert not set(answer.out) & {"\x1b", "\x07", "\u202e", "\r"}
    assert "[red]エンゲージ🎌[/red]␛[2J�gnp order-[bold]7 failed" in answer.lines[0]
    assert "検索🔍[/] failed · 8.0 ms · 2 tokens · global ValueError: boom [/bold]" in answer.out
    assert max(map(cell_len, answer.lines)) <= 80


def test_show_tells_what_runs_without_inventing_an_end(spanflow, ledger):
    answer = spanflow("show", "000003", "--ledger", ledger)
    assert "turn 1 new running" in answer.out
    assert "intake running\n" in answer.out
    assert "tokens unknown" in answer.out


def test_show_as_json_holds_the_whole_tree(spanflow, ledger):
    tree = json.loads(spanflow("show", BOOKING, "--ledger", ledger, "--json").out)
    look_up = tree["history"][0]["steps"][1]["steps"][1]
    assert look_up["path"] == "search/look_up"
    assert [call["status"] for call in look_up["calls"]] == ["error", "ok"]


@pytest.mark.parametrize("columns", [20, 40, 80, 120, 200])
def test_nothing_is_wider_than_the_terminal(spanflow, ledger, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    for part in ("4f1c09d2ab7e", "order", "000003"):
        answer = spanflow("show", part, "--ledger", ledger)
        assert max(map(cell_len, answer.lines)) <= columns


def test_sql_prints_a_table(spanflow, ledger):
    answer = spanflow(
        "sql", "SELECT name, turns, goal FROM engagements ORDER BY started_at", "--ledger", ledger
    )
    assert [line.rstrip() for line in answer.lines] == [
        "name                             turns  goal",
        "booking                              2  submitted",
        "[red]エンゲージ🎌[/red]␛[2J�gnp      1  –",
        "booking                              1  –",
        "3 rows",
    ]


def test_sql_prints_what_is_too_wide_as_blocks(spanflow, ledger):
    answer = spanflow("sql", "FROM engagements WHERE goal IS NOT NULL", "--ledger", ledger)
    assert f"engagement_id        {BOOKING}" in answer.lines
    assert answer.lines[-1] == "1 row"


def test_sql_names_the_columns_where_there_is_no_row(spanflow, ledger):
    wide = spanflow("sql", "FROM engagements WHERE name = 'nobody'", "--ledger", ledger)
    assert wide.code == 0
    assert wide.out.startswith("engagement_id, name, status, goal")
    assert wide.lines[-1] == "0 rows"
    narrow = spanflow("sql", "SELECT name, turns FROM engagements LIMIT 0", "--ledger", ledger)
    assert [line.split() for line in narrow.lines] == [["name", "turns"], ["0", "rows"]]
    assert spanflow("sql", "FROM turns LIMIT 0", "--ledger", ledger, "--json").out == "[]\n"


def test_sql_as_json_gives_rows_as_objects(spanflow, ledger):
    query = "SELECT user_id, started_at, 1.5::DECIMAL(4, 2) AS half FROM turns ORDER BY 2 LIMIT 1"
    [row] = json.loads(spanflow("sql", query, "--ledger", ledger, "--json").out)
    assert row == {"user_id": "u1", "started_at": "2026-11-18T11:06:40", "half": 1.5}


def test_numbers_that_json_does_not_know_become_null(spanflow, ledger):
    query = f"SELECT 'nan'::DOUBLE AS a, ['inf'::DOUBLE] AS b, {2**127 - 1} AS c"
    answer = spanflow("sql", query, "--ledger", ledger, "--json")
    assert json.loads(answer.out) == [{"a": None, "b": [None], "c": 2**127 - 1}]


@pytest.mark.parametrize("query", ["SELEC", "SELECT nope", "DROP VIEW turns", "FROM nowhere"])
def test_a_query_that_fails_is_told_in_one_line(spanflow, ledger, query):
    answer = spanflow("sql", query, "--ledger", ledger)
    assert (answer.code, answer.out) == (1, "")
    assert answer.err.startswith("spanflow: ")
    assert answer.err.count("\n") == 1


def test_a_missing_ledger_says_how_to_make_one(spanflow, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for command in (["ls"], ["show", "x"], ["sql", "SELECT 1"]):
        answer = spanflow(*command)
        assert (answer.code, answer.out) == (1, "")
        assert "There is no ledger at traces.duckdb" in answer.err
        assert "spanflow run app.py" in answer.err
        assert answer.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_the_ledger_is_found_by_variable_and_by_its_usual_name(spanflow, ledger, monkeypatch):
    monkeypatch.setenv("SPANFLOW_LEDGER", str(ledger))
    assert "booking" in spanflow("ls").out
    monkeypatch.setenv("SPANFLOW_LEDGER", "")
    monkeypatch.chdir(ledger.parent)
    assert "booking" in spanflow("ls").out


def test_an_unknown_id_says_how_to_find_one(spanflow, ledger):
    answer = spanflow("show", "zzz", "--ledger", ledger)
    assert (answer.code, answer.out) == (1, "")
    assert "`spanflow ls` lists them" in answer.err


def test_a_ledger_with_nothing_in_it_yet(spanflow, tmp_path):
    journal = Journal(tmp_path / "t.duckdb")
    journal.append(
        {"source": "capture", "phase": "end", "kind": "graph", "graph_version": "0" * 16}
    )
    journal.close()
    answer = spanflow("ls", "--ledger", tmp_path / "t.duckdb")
    assert (answer.code, answer.out) == (0, "No engagements.\n")
