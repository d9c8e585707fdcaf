"""Parquet says what the views say, day by day, and a second writing replaces the first."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Any

import duckdb
import pytest

from spanflow.errors import LedgerError, LedgerNotFoundError
from spanflow.ledger.journal import Journal
from spanflow.query.export import VIEWS, export_parquet
from spanflow.query.journeys import connect

if TYPE_CHECKING:
    from pathlib import Path

DAY_NS = 86_400_000_000_000
T0 = 1_790_000_000_000_000_000


def read(folder: Path, view: str) -> list[tuple[Any, ...]]:
    parted = "true" if VIEWS[view] else "false"
    shown = "* EXCLUDE (day)" if VIEWS[view] else "*"
    with duckdb.connect() as connection:
        return connection.execute(
            f"SELECT {shown} FROM read_parquet('{folder}/{view}/**/*.parquet',"
            f" hive_partitioning = {parted}) ORDER BY ALL"
        ).fetchall()


def days(folder: Path, view: str) -> list[str]:
    return sorted(path.name for path in (folder / view).iterdir())


def test_every_view_comes_back_as_it_was(ledger: Path, tmp_path: Path):
    told: list[str] = []
    written = export_parquet(ledger, tmp_path / "lake", progress=told.append)
    assert told == [one.view for one in written] == list(VIEWS)
    with connect(ledger) as opened:
        for one in written:
            described = opened.sql(f"DESCRIBE {one.view}").rows
            shown = ", ".join(
                f"{name}::VARCHAR" if kind == "JSON" else f'"{name}"'
                for name, kind, *_ in described
            )
            rows = opened.sql(f"SELECT {shown} FROM {one.view} ORDER BY ALL").rows
            assert one.rows == len(rows)
            if rows:
                assert read(tmp_path / "lake", one.view) == rows
    assert {one.view for one in written if one.rows} >= {
        *("engagements", "turns", "steps", "llm_calls", "tool_calls", "events", "waits", "spans"),
    }
    assert days(tmp_path / "lake", "engagements") == ["day=2026-11-18"]
    [file] = (tmp_path / "lake" / "turns").rglob("*.parquet")
    assert file.stat().st_mode & 0o777 == 0o600
    assert not list((tmp_path / "lake").glob(".writing*"))


@pytest.fixture
def three_days(tmp_path: Path) -> Path:
    journal = Journal(tmp_path / "days.duckdb")
    for day in range(3):
        write(journal, day, 1)
    journal.close()
    return tmp_path / "days.duckdb"


def write(journal: Journal, day: int, number: int) -> None:
    began = T0 + day * DAY_NS + number
    journal.append(
        {
            "source": "capture",
            "phase": "end",
            "kind": "turn",
            "status": "completed",
            "trace_id": f"{day * 10 + number + 1:032x}",
            "span_id": f"{day * 10 + number + 1:016x}",
            "engagement_id": f"e{day}-{number}",
            "turn_kind": "new",
            "started_ns": began,
            "ended_ns": began + 5_000_000,
        }
    )


def test_only_the_days_that_were_asked_for_are_written_and_replaced(
    three_days: Path, tmp_path: Path
):
    lake = tmp_path / "lake"
    second = date(2026, 9, 22)
    [engagements, *_] = export_parquet(three_days, lake, since=second, until=second)
    assert (engagements.rows, days(lake, "engagements")) == (1, ["day=2026-09-22"])
    export_parquet(three_days, lake)
    assert days(lake, "turns") == ["day=2026-09-21", "day=2026-09-22", "day=2026-09-23"]

    kept = next((lake / "turns" / "day=2026-09-21").iterdir())
    before = kept.stat().st_mtime_ns
    (lake / "turns" / "day=2026-09-22" / "data_7.parquet").write_bytes(b"left by another writing")
    (lake / "turns" / "day=2026-09-22" / "mine.txt").write_text("not ours")
    journal = Journal(three_days)
    write(journal, 1, 2)
    journal.close()
    export_parquet(three_days, lake, since=second)
    assert kept.stat().st_mtime_ns == before
    assert len(read(lake, "turns")) == 4
    assert sorted(path.name for path in (lake / "turns" / "day=2026-09-22").iterdir()) == [
        "data_0.parquet",
        "mine.txt",
    ]


def test_a_ledger_without_rows_writes_nothing(tmp_path: Path):
    journal = Journal(tmp_path / "empty.duckdb")
    journal.append({"kind": "graph", "graph_version": "a", "name": "g"})
    journal.close()
    assert export_parquet(tmp_path / "empty.duckdb", tmp_path / "lake") == []
    assert not (tmp_path / "lake").exists()


def test_what_cannot_be_written_or_read_says_so(ledger: Path, tmp_path: Path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(LedgerError, match="file cannot be written"):
        export_parquet(ledger, tmp_path / "file")
    with pytest.raises(LedgerNotFoundError):
        export_parquet(tmp_path / "none.duckdb", tmp_path / "lake")


def test_a_quote_in_a_name_is_only_a_quote(ledger: Path, tmp_path: Path):
    export_parquet(ledger, tmp_path / "o'lake")
    assert (tmp_path / "o'lake" / "turns" / "day=2026-11-18" / "data_0.parquet").is_file()
