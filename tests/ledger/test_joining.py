"""Another ledger taken into this one: hosts that share an engagement, versions, refusals."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import duckdb
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from oldest import OLDEST

from spanflow.errors import LedgerError, LedgerNotFoundError
from spanflow.ledger import joining
from spanflow.ledger.joining import join
from spanflow.ledger.places import Places
from spanflow.ledger.publish import refresh

if TYPE_CHECKING:
    from pathlib import Path

VIEWS = {
    "engagements": "*",
    "turns": "*",
    "steps": "*",
    "llm_calls": "*",
    "tool_calls": "*",
    "events": "*",
    "waits": "*",
    "transitions": "*",
    "graphs": "*",
    "spans": "*",
}


def rows(make: Any, ledger: Path) -> dict[str, list[tuple[Any, ...]]]:
    refresh(ledger)
    as_of = "as_of := TIMESTAMP '2100-01-01'"
    with duckdb.connect(str(ledger), read_only=True) as connection:
        return {
            view: connection.execute(
                f"SELECT * FROM {'engagements(' + as_of + ')' if view == 'engagements' else view} "
                "ORDER BY ALL"
            ).fetchall()
            for view in VIEWS
        }


def first_host(make: Any) -> list[dict[str, Any]]:
    """The first turn, which pauses; the graph it ran on; and a call outside any turn."""
    graph = {
        "kind": "graph",
        "graph_version": "a" * 16,
        "name": "booking",
        "nodes": [],
        "edges": [],
    }
    return [
        graph,
        make.turn(1, at=0, until=10, status="paused", on_thread=True),
        make.step(2, "ask", at=1, status="waiting", superstep=1),
        make.llm(3, 2, (30, 10), at=2),
        make.llm(9, None, (4, 4), turn=None, trace=9, caller="script"),
    ]


def second_host(make: Any) -> list[dict[str, Any]]:
    """The turn that answers it, a day later, and what was begun and never ended."""
    day = 86_400_000
    return [
        make.turn(11, at=day, until=day + 10, turn_kind="resume", trace=2),
        make.step(12, "pay", at=day + 1, turn=11, trace=2),
        make.llm(13, 12, (5, 6), at=day + 2, turn=11, trace=2),
        make.tool(14, 12, at=day + 3, turn=11, trace=2),
        make.turn(21, phase="start", at=5, trace=3, engagement_id="e2"),
        make.step(22, "search", phase="start", at=6, turn=21, trace=3, engagement_id="e2"),
    ]


def test_an_engagement_spread_over_hosts_reads_as_one(make: Any, ledger: Path, tmp_path: Path):
    other = tmp_path / "other.duckdb"
    make.write(ledger, first_host(make))
    make.write(other, second_host(make))
    report = join(ledger, other)
    assert (report.spans, report.changed) == (6, True)
    [one] = make.ask(ledger, "FROM engagements WHERE engagement_id = 'e1'")
    assert (one["turns"], one["total_tokens"], one["status"]) == (2, 51, "completed")
    turns = make.ask(ledger, "SELECT turn_id, previous_turn_id FROM turns WHERE engagement_id='e1'")
    assert turns == [
        {"turn_id": make.ident(1), "previous_turn_id": None},
        {"turn_id": make.ident(11), "previous_turn_id": make.ident(1)},
    ]
    assert make.ask(ledger, "SELECT resolution FROM waits") == [{"resolution": "answered"}]


def test_either_way_and_again_give_the_same(make: Any, tmp_path: Path, ledger: Path):
    one, two = tmp_path / "one.duckdb", tmp_path / "two.duckdb"
    make.write(one, first_host(make))
    make.write(two, second_host(make))
    make.close(two)
    refresh(one)
    three = tmp_path / "three.duckdb"
    shutil.copy(one, three)
    join(one, two)
    join(two, three)
    assert rows(make, one) == rows(make, two)
    assert rows(make, one)["graphs"]
    assert not join(one, two).changed
    [row] = make.ask(one, "SELECT revision FROM meta")
    assert not join(one, three).changed
    assert make.ask(one, "SELECT revision FROM meta") == [row]


def test_who_is_gone_there_is_gone_here(make: Any, ledger: Path, tmp_path: Path):
    other = tmp_path / "other.duckdb"
    make.write(other, second_host(make))
    join(ledger, other)
    status = "SELECT status FROM engagements(as_of := {}) WHERE engagement_id = 'e2'"
    early = status.format("TIMESTAMP '2026-09-21 14:14:00'")
    assert make.ask(ledger, early) == [{"status": "active"}]
    make.close(other)
    assert join(ledger, other).changed
    assert make.ask(ledger, early) == [{"status": "interrupted"}]
    assert make.ask(ledger, "SELECT dropped_at FROM engagements WHERE engagement_id = 'e2'") == [
        {"dropped_at": "search"}
    ]


def test_whom_nobody_here_sees_die_is_not_active_for_ever(make: Any, ledger: Path, tmp_path: Path):
    other = tmp_path / "other.duckdb"
    make.write(other, second_host(make))
    join(ledger, other)
    asked = "FROM status_history('e2', as_of := TIMESTAMP '2100-01-01')"
    assert [row["status"] for row in make.ask(ledger, asked)] == ["active", "interrupted"]
    # Where the process is watched, silence alone ends nothing.
    assert [row["status"] for row in make.ask(other, asked)] == ["active"]
    assert make.ask(ledger, "SELECT outcome FROM turns WHERE engagement_id = 'e2'") == [
        {"outcome": "interrupted"}
    ]
    assert not join(ledger, other).changed
    # What comes late takes it back.
    make.write(other, [make.turn(21, at=5, until=90, trace=3, engagement_id="e2")])
    join(ledger, other)
    assert [row["status"] for row in make.ask(ledger, asked)] == ["active", "completed"]


def test_in_small_slices_the_same_rows_come(make: Any, tmp_path: Path, monkeypatch: Any):
    other = tmp_path / "other.duckdb"
    make.write(other, [*first_host(make), *second_host(make)])
    seen: list[tuple[int, int]] = []
    join(tmp_path / "whole.duckdb", other)
    monkeypatch.setattr(joining, "SLICE_ROWS", 1)
    join(tmp_path / "small.duckdb", other, progress=lambda done, of: seen.append((done, of)))
    assert len(seen) == 4
    assert seen[-1] == (10, 10)
    assert rows(make, tmp_path / "small.duckdb") == rows(make, tmp_path / "whole.duckdb")


FIELDS = ("status", "model", "provider", "response_id", "input_tokens", "output_tokens", "caller")


@st.composite
def tellings(draw: Any) -> list[dict[str, Any]]:
    """Several records of one call, each with some of its fields."""
    sources = st.sampled_from(["capture", "exporter", "otlp"])
    numbers = st.integers(1, 3)
    return [
        {
            "source": draw(sources),
            # Equals are ranked by their whole text, of which the process's id is a part.
            "until": until,
            **{
                name: draw(numbers) if name.endswith("tokens") else f"{name}-{draw(numbers)}"
                for name in draw(st.sets(st.sampled_from(FIELDS), max_size=4))
            },
        }
        for until in draw(st.permutations([2, 3, 4, 5]))
    ]


@settings(
    deadline=None,
    max_examples=12,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(told=tellings(), split=st.integers(0, 5), turned=st.booleans())
def test_half_known_here_and_half_there_is_as_if_all_had_come_here(
    make: Any, ledger: Path, told: list[dict[str, Any]], split: int, turned: bool
):
    records = [make.record("llm", 3, step_id=2, **dict(fields)) for fields in told]
    folder = ledger.parent / f"case-{len(list(ledger.parent.iterdir()))}"
    here, there, together = (folder / f"{name}.duckdb" for name in ("here", "there", "together"))
    make.write(here, [make.turn(1), *records[:split]])
    make.write(there, [make.turn(1), *records[split:]])
    make.write(together, [make.turn(1), *records])
    first, second = (there, here) if turned else (here, there)
    join(first, second)
    query = "SELECT * EXCLUDE (process_id, revision) FROM records ORDER BY span_id"
    assert make.ask(first, query) == make.ask(together, query)
    partials = "SELECT * EXCLUDE (process_id) FROM partials ORDER BY ALL"
    assert make.ask(first, partials) == make.ask(together, partials)


def test_what_was_erased_here_does_not_come_back(make: Any, ledger: Path, tmp_path: Path):
    other = tmp_path / "other.duckdb"
    make.write(ledger, first_host(make)[-1:])
    refresh(ledger)
    with duckdb.connect(str(Places.of(ledger).store)) as store:
        store.execute(
            "INSERT INTO tombstones SELECT sha256(salt || 'e1'), TIMESTAMP '2026-01-01' FROM meta"
        )
    make.write(other, second_host(make))
    join(ledger, other)
    found = make.ask(ledger, "SELECT engagement_id FROM engagements")
    assert found == [{"engagement_id": "e2"}]


def oldest(path: Path, make: Any) -> None:
    """A published file of the oldest version: two migrations, and rows in them."""
    source = path.with_name("source.duckdb")
    make.write(source, first_host(make))
    refresh(source)
    with duckdb.connect(str(path), config={"storage_compatibility_version": "v1.4.0"}) as made:
        made.execute(
            "CREATE TABLE migrations (name VARCHAR NOT NULL, applied_at TIMESTAMP NOT NULL)"
        )
        for name, script in OLDEST:
            made.execute(script)
            made.execute("INSERT INTO migrations VALUES (?, TIMESTAMP '2026-01-01')", [name])
        made.execute(f"ATTACH '{source}' AS source (READ_ONLY)")
        for table in ("records", "partials", "turn_facts", "graph_versions", "processes"):
            columns = ", ".join(row[0] for row in made.execute(f"DESCRIBE {table}").fetchall())
            made.execute(f"INSERT INTO {table} ({columns}) SELECT {columns} FROM source.{table}")


def test_a_ledger_of_the_oldest_version_is_taken(make: Any, ledger: Path, tmp_path: Path):
    old = tmp_path / "old.duckdb"
    oldest(old, make)
    before = old.read_bytes()
    join(ledger, old)
    assert old.read_bytes() == before
    assert rows(make, ledger) == rows(make, tmp_path / "source.duckdb")


def test_new_records_come_over_a_file_of_the_oldest_version(make: Any, ledger: Path):
    oldest(ledger, make)
    make.write(ledger, second_host(make))
    assert make.ask(ledger, "SELECT turns FROM engagements WHERE engagement_id = 'e1'") == [
        {"turns": 2}
    ]


def test_it_is_refused_with_the_reason(make: Any, ledger: Path, tmp_path: Path):
    make.write(ledger, first_host(make))
    refresh(ledger)
    (tmp_path / "link.duckdb").symlink_to(ledger)
    (tmp_path / "hard.duckdb").hardlink_to(ledger)
    for itself in (ledger, "link.duckdb", "hard.duckdb", Places.of(ledger).store):
        with pytest.raises(LedgerError, match="itself"):
            join(ledger, tmp_path / itself)
    with pytest.raises(LedgerNotFoundError, match=r"missing\.duckdb"):
        join(ledger, tmp_path / "missing.duckdb")
    foreign = tmp_path / "foreign.duckdb"
    with duckdb.connect(str(foreign)) as made:
        made.execute("CREATE TABLE meta AS SELECT 1 AS format")
    with pytest.raises(LedgerError, match=r"foreign\.duckdb .* no spanflow ledger"):
        join(ledger, foreign)
    torn = tmp_path / "torn.duckdb"
    torn.write_bytes(ledger.read_bytes()[:5_000])
    with pytest.raises(LedgerError, match=r"torn\.duckdb cannot be read"):
        join(ledger, torn)
    newer = tmp_path / "newer.duckdb"
    shutil.copy(ledger, newer)
    with duckdb.connect(str(newer)) as made:
        made.execute("INSERT INTO migrations VALUES ('9999_later.sql', TIMESTAMP '2026-01-01')")
    with pytest.raises(LedgerError, match=r"newer\.duckdb was written by a newer spanflow"):
        join(ledger, newer)
    left = {path.name for path in Places.of(ledger).directory.iterdir()}
    assert not {name for name in left if name.startswith("joining.duckdb")}
    with pytest.raises(LedgerError, match="private store"):
        join(tmp_path / "fresh.duckdb", Places.of(ledger).store)


def test_one_at_a_time(make: Any, ledger: Path, tmp_path: Path):
    other = tmp_path / "other.duckdb"
    make.write(other, second_host(make))

    def again(_done: int, _of: int) -> None:
        with pytest.raises(LedgerError, match="Another process is taking"):
            join(ledger, other)

    join(ledger, other, progress=again)
    assert join(ledger, other).spans == 6
