"""The store's schema: one shape in code, SQL and documentation, never a later version's."""

from __future__ import annotations

import re
from pathlib import Path

import duckdb
import pytest
from oldest import OLDEST

from spanflow.errors import LedgerError
from spanflow.ledger.fields import FIELDS
from spanflow.ledger.places import Places
from spanflow.ledger.publish import refresh
from spanflow.ledger.store import migrations, open_store

DOCS = Path(__file__).parents[2] / "docs"
VIEWS = (
    "engagements", "turns", "steps", "llm_calls", "tool_calls", "events", "waits", "transitions",
    "handoffs", "graphs", "spans", "diagnostics", "usage_conflicts", "visits",
)  # fmt: skip
MACROS = {
    "status_history": "status_history('e1')",
    "critical_path": "critical_path('e1')",
    "repriced": "repriced()",
    "waits": "waits()",
    "engagements": "engagements()",
    "visits": "visits()",
}
# What the views and the questions are made of.
INSIDE = {
    "engagement_sums", "executions", "instant", "chosen", "asked_steps", "comers", "steps_taken",
    "calls_by", "returning_users",
}  # fmt: skip


@pytest.fixture
def places(ledger) -> Places:
    made = Places.of(ledger)
    made.make()
    return made


def columns(connection, table: str) -> dict[str, str]:
    rows = connection.execute(
        "SELECT column_name, data_type FROM duckdb_columns() WHERE table_name = ? "
        "ORDER BY column_index",
        [table],
    ).fetchall()
    return dict(rows)


def test_records_and_partials_hold_every_field_in_order(places):
    with open_store(places) as connection:
        assert list(columns(connection, "partials").items()) == list(FIELDS.items())
        found = columns(connection, "records")
        assert [(name, kind) for name, kind in found.items() if name in FIELDS] == list(
            FIELDS.items()
        )


def test_every_field_of_the_record_format_is_stored():
    text = (DOCS / "design.md").read_text("utf-8")
    table = text[text.index("| field | type |") : text.index("A span may be reported many times")]
    told = {
        name
        for line in table.splitlines()
        for name in re.findall(r"`(\w+)`", line.split("|")[1] if line.count("|") > 1 else "")
    }
    assert told == set(FIELDS)


def test_every_column_of_every_view_is_documented(places):
    text = (DOCS / "ledger.md").read_text("utf-8")
    with open_store(places) as connection:
        for view in VIEWS:
            section = re.search(rf"^### `{view}`\n(.*?)(?=^#|\Z)", text, re.MULTILINE | re.DOTALL)
            assert section, f"docs/ledger.md says nothing of {view}"
            documented = set(re.findall(r"`(\w+)`", section[1]))
            missing = set(columns(connection, view)) - documented
            assert not missing, f"{view}: {sorted(missing)}"
        shown = {
            row[0]
            for row in connection.execute(
                "SELECT view_name FROM duckdb_views() WHERE NOT internal"
            ).fetchall()
        }
        assert shown == set(VIEWS)


def test_every_table_macro_is_documented(places):
    text = (DOCS / "ledger.md").read_text("utf-8")
    with open_store(places) as connection:
        found = connection.execute(
            "SELECT DISTINCT function_name FROM duckdb_functions() "
            "WHERE function_type = 'table_macro' AND NOT internal"
        ).fetchall()
        book = (DOCS / "analytics.md").read_text("utf-8")
        questions = re.findall(r"^### `(\w+)`$", book, re.MULTILINE)
        assert {name for (name,) in found} == set(MACROS) | set(questions) | INSIDE
        for name, call in MACROS.items():
            assert f"`{name}(" in text, name
            section = text[text.index(f"### `{name}`") :]
            told = connection.execute(f"DESCRIBE FROM {call}").fetchall()
            assert [row[0] for row in told if f"`{row[0]}`" not in section] == []


def test_there_is_no_key_and_no_index_to_be_locked_out_by(places):
    with open_store(places) as connection:
        assert connection.execute("FROM duckdb_indexes()").fetchall() == []
        kinds = connection.execute("SELECT constraint_type FROM duckdb_constraints()").fetchall()
        assert {kind for (kind,) in kinds} == {"NOT NULL"}


def test_migrations_are_applied_once_in_the_order_of_their_names(places):
    for _ in range(2):
        with open_store(places) as connection:
            names = [row[0] for row in connection.execute("SELECT name FROM migrations").fetchall()]
            assert names == [name for name, _ in migrations()]
            assert names == sorted(names)
            assert names[-2].endswith("_views.sql"), "views may ask for any table"
            assert names[-1].endswith("_analytics.sql"), "… and questions for any view"


def test_a_store_of_a_newer_version_is_refused_and_left_alone(places, ledger, make):
    make.write(ledger, [make.turn()])
    refresh(ledger)
    with duckdb.connect(str(places.store)) as connection:
        connection.execute("INSERT INTO migrations VALUES ('9999_future.sql', now()::TIMESTAMP)")
    make.write(ledger, [make.turn(2)])
    before = places.store.read_bytes()
    with pytest.raises(LedgerError, match=r"newer spanflow \(it has 9999_future.sql\)"):
        refresh(ledger)
    assert places.store.read_bytes() == before
    assert len(list(places.journal.glob("*.ndjson"))) == 1


def test_a_store_that_was_never_one_is_out_of_the_way_at_once(places, ledger, make):
    places.store.write_bytes(b"x" * 100_000)
    make.write(ledger, [make.turn()])
    assert make.ask(ledger, "SELECT count(*) AS n FROM turns") == [{"n": 1}]


def test_older_tools_can_open_the_file(places):
    with open_store(places) as connection:
        rows = connection.execute(
            "SELECT tags['storage_version'] FROM duckdb_databases() WHERE NOT internal"
        ).fetchall()
        assert [row[0][:4] for row in rows] == ["v1.4"]


def test_a_ledger_of_the_oldest_shape_is_brought_up_to_date_with_its_rows(places, ledger, make):
    with duckdb.connect(
        str(places.store), config={"storage_compatibility_version": "v1.4.0"}
    ) as made:
        made.execute(
            "CREATE TABLE migrations (name VARCHAR NOT NULL, applied_at TIMESTAMP NOT NULL)"
        )
        for name, script in OLDEST:
            made.execute(script)
            made.execute("INSERT INTO migrations VALUES (?, now()::TIMESTAMP)", [name])
        made.execute(
            "INSERT INTO turn_facts (turn_id, engagement_id, is_open, on_thread, outcome, "
            "started_ns, first_ns, last_ns, steps, errors, unknown_step_records, llm_calls, "
            "tool_calls, calls_without_usage, unpriced_calls) "
            "VALUES ('t0', 'e0', false, false, 'completed', 1, 1, 2, 0, 0, 0, 0, 0, 0, 0)"
        )
    make.write(ledger, [make.turn()])
    assert make.ask(ledger, "SELECT engagement_id, status FROM engagements ORDER BY ALL") == [
        {"engagement_id": "e0", "status": "completed"},
        {"engagement_id": "e1", "status": "completed"},
    ]
    with open_store(places) as upgraded:
        shape = "SELECT table_name, column_name, data_type FROM duckdb_columns() WHERE NOT internal"
        grown = set(upgraded.execute(shape).fetchall())
    fresh = Places.of(ledger.with_name("fresh.duckdb"))
    fresh.make()
    with open_store(fresh) as new:
        assert grown == set(new.execute(shape).fetchall()), "grown or made anew, it is one shape"


def test_at_most_one_thread_is_asked_for(places):
    with open_store(places) as connection:
        assert connection.execute("SELECT current_setting('threads')").fetchall() == [(1,)]
