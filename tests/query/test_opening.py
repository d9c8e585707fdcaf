"""Which files open as ledgers, and that nobody who asks one can write or reach anything else."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

import duckdb
import pytest
from oldest import OLDEST

from spanflow.errors import LedgerError
from spanflow.ledger.places import Places
from spanflow.ledger.publish import refresh
from spanflow.ledger.store import migrations
from spanflow.query.journeys import connect

BOOKING = "01936c2a-7f3e-7c11-9b7e-4f1c09d2ab7e"
TABLES = ("records", "partials", "turn_facts", "graph_versions", "processes")


def oldest(source: Path, target: Path) -> None:
    """Write what `source` holds as the oldest version of the schema would."""
    config = {"storage_compatibility_version": "v1.4.0"}
    with duckdb.connect(str(target), config=config) as made:
        made.execute("CREATE TABLE migrations (name VARCHAR, applied_at TIMESTAMP)")
        for name, script in OLDEST:
            made.execute(script)
            made.execute("INSERT INTO migrations VALUES (?, TIMESTAMP '2026-01-01')", [name])
        made.execute(f"ATTACH '{source}' AS source (READ_ONLY)")
        for table in TABLES:
            names = ", ".join(row[0] for row in made.execute(f"DESCRIBE {table}").fetchall())
            made.execute(f"INSERT INTO {table} ({names}) SELECT {names} FROM source.{table}")


@pytest.fixture
def published(ledger: Path, tmp_path: Path) -> Path:
    """The published file alone, as somebody was sent it."""
    refresh(ledger)
    alone = tmp_path / "alone" / "traces.duckdb"
    alone.parent.mkdir()
    shutil.copy(ledger, alone)
    return alone


def test_a_file_of_the_oldest_version_alone_is_read_and_left_as_it_is(
    published: Path, tmp_path: Path
):
    old = tmp_path / "old.duckdb"
    oldest(published, old)
    before = old.read_bytes()
    with connect(old) as opened, connect(published) as current:
        assert opened.engagements() == current.engagements()
        assert opened.engagement(BOOKING) == current.engagement(BOOKING)
        assert len(opened.latest_changes(5)) == 5
        copies = set(Path(tempfile.gettempdir()).glob("spanflow-*/ledger.duckdb"))
        assert {path.stat().st_mode & 0o077 for path in copies} == {0}
    assert old.read_bytes() == before
    assert not old.with_name("old.duckdb.d").exists()
    assert not [copy for copy in copies if copy.exists()]


def test_a_ledger_of_the_oldest_version_with_its_folder_is_brought_up_to_date(
    published: Path, tmp_path: Path
):
    old = tmp_path / "old.duckdb"
    oldest(published, old)
    places = Places.of(old)
    places.make()
    shutil.copy(old, places.store)
    with connect(old) as opened, connect(published) as current:
        assert opened.engagements() == current.engagements()
    with duckdb.connect(str(old), read_only=True) as file:
        applied = {name for (name,) in file.execute("SELECT name FROM migrations").fetchall()}
    assert applied >= {name for name, _ in migrations()}


def test_a_newer_file_is_refused_and_left_as_it_is(published: Path):
    with duckdb.connect(str(published)) as made:
        made.execute("INSERT INTO migrations VALUES ('9999_later.sql', TIMESTAMP '2030-01-01')")
    before = published.read_bytes()
    with pytest.raises(LedgerError, match=r"newer spanflow .*9999_later.*Upgrade"):
        connect(published)
    assert published.read_bytes() == before


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE meta AS SELECT 'something else' AS format",
        "CREATE TABLE meta (x INTEGER)",
        "CREATE TABLE engagements (engagement_id VARCHAR)",
    ],
)
def test_a_database_of_others_is_refused(statement: str, tmp_path: Path):
    with duckdb.connect(str(tmp_path / "foreign.duckdb")) as made:
        made.execute(statement)
    with pytest.raises(LedgerError, match="no spanflow ledger"):
        connect(tmp_path / "foreign.duckdb")


def test_what_is_no_database_is_refused(tmp_path: Path):
    (tmp_path / "text.duckdb").write_text("no database" * 1_000)
    with pytest.raises(LedgerError, match="cannot be read as a ledger"):
        connect(tmp_path / "text.duckdb")


@pytest.mark.parametrize(
    "query",
    [
        "COPY engagements TO '{file}'",
        "COPY (SELECT 1) TO '{file}' (FORMAT parquet)",
        "EXPORT DATABASE '{file}'",
        "ATTACH '{file}' AS mine",
        "SELECT * FROM read_text('/etc/hostname')",
        "SELECT * FROM glob('/*')",
        "SELECT * FROM read_parquet('{file}')",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SELECT * FROM read_csv('http://127.0.0.1:9/x.csv')",
        "SET enable_external_access = true",
        "RESET lock_configuration",
        "PRAGMA profile_output = '{file}'",
        "SET log_query_path = '{file}'",
        "CREATE TABLE t AS SELECT 1",
        "DELETE FROM records",
        "UPDATE meta SET revision = 9",
        "CREATE PERSISTENT SECRET s (TYPE http)",
    ],
)
def test_who_asks_can_change_nothing_and_reach_nothing(query: str, ledger: Path, tmp_path: Path):
    with connect(ledger) as opened:
        file = tmp_path / "stolen"
        with pytest.raises(LedgerError):
            opened.sql(query.format(file=file))
        assert not file.exists()
        assert len(opened.engagements()) == 3


def test_a_name_in_a_query_is_never_a_variable(ledger: Path):
    secret = [{"a": 1}]
    with connect(ledger) as opened, pytest.raises(LedgerError, match="secret"):
        opened.sql("SELECT * FROM secret")
    assert secret


def test_a_large_sort_needs_no_files_of_the_users(ledger: Path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = set(tmp_path.iterdir())
    with connect(ledger) as opened:
        [(rows,)] = opened.sql(
            "SELECT count(*) FROM (SELECT hash(r) AS h FROM range(1000000) t(r) ORDER BY h)"
        ).rows
    assert rows == 1_000_000
    assert {path.name for path in set(tmp_path.iterdir()) - before} <= {"traces.duckdb"}


def test_what_another_version_published_is_published_again_once(ledger: Path):
    refresh(ledger)
    places = Places.of(ledger)
    first = places.ledger.stat().st_ino
    refresh(ledger)
    assert places.ledger.stat().st_ino == first
    told = json.loads(places.published.read_text())
    places.published.write_text(json.dumps(told | {"schema": "0002_views.sql"}))
    refresh(ledger)
    second = places.ledger.stat().st_ino
    assert second != first
    refresh(ledger)
    assert places.ledger.stat().st_ino == second
