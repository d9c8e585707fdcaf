"""Purging and forgetting: what goes, what stays, and that nothing of it is left anywhere."""

from __future__ import annotations

import json
import os
import secrets
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING

import duckdb
import pytest

from spanflow.errors import LedgerError, LedgerNotFoundError
from spanflow.ledger.journal import Journal
from spanflow.ledger.places import Places
from spanflow.ledger.publish import refresh
from spanflow.ledger.retention import forget, purge

if TYPE_CHECKING:
    from pathlib import Path

DAY = 86_400_000
# What the factories' T0 is.
START = datetime.fromtimestamp(1_790_000_000, UTC)


def files_of(ledger: Path) -> list[Path]:
    return [path for path in ledger.parent.rglob("*") if path.is_file()]


def holders(ledger: Path, *texts: str) -> set[str]:
    """Every file and every table that holds one of the texts, in the clear or compressed."""
    found = {
        path.name
        for path in files_of(ledger)
        for text in texts
        if text.encode() in path.read_bytes()
    }
    for file in (ledger, Places.of(ledger).store):
        if not file.exists():
            continue
        with duckdb.connect(str(file), read_only=True) as connection:
            for (table,) in connection.execute(
                "SELECT table_name FROM duckdb_tables() WHERE NOT internal"
            ).fetchall():
                rows = repr(connection.execute(f"FROM {table}").fetchall())
                found |= {f"{file.name}:{table}" for text in texts if text in rows}
    return found


@pytest.fixture
def say(make, ledger):
    """Write one engagement of one turn and one call; days are counted from T0."""

    def said(number: int, *, day: float = 0, alive: bool = True, **fields):
        turn, engagement, trace = number * 100, f"e{number}", number
        at = int(day * DAY)
        same = {"engagement_id": engagement, "trace": trace, "at": at}
        records = [
            make.step(turn + 1, "ask", turn=turn, **same),
            make.llm(turn + 2, turn + 1, (3, 4), turn=turn, attributes={"n": number}, **same),
            make.turn(turn, **same | fields),
        ]
        if alive:
            make.write(ledger, records)
        else:
            journal = Journal(ledger)
            for one in records:
                journal.append(one)
            journal.close()
        return records

    return said


def ids(make, ledger) -> set[str]:
    return {row["engagement_id"] for row in make.ask(ledger, "SELECT * FROM engagements")}


def test_what_has_ended_and_is_past_its_window_goes_and_nothing_else(ledger, make, say):
    say(1)
    say(2, status="failed")
    say(3, goals=["paid"])
    say(4, phase="start", status=None, alive=False)
    say(5, phase="start", status=None)
    say(6, status="paused")
    say(7, day=20)
    refresh(ledger, idle_after=timedelta(days=300))
    now = START + timedelta(days=31)
    make.write(ledger, [make.turn(601, engagement_id="e6", trace=6, at=1, status="paused")])
    told = purge(ledger, "30d", now, dry_run=True)
    assert told.engagements == ("e1", "e2", "e3", "e4")
    assert told.spans == 12
    assert len(ids(make, ledger)) == 7, "a dry run erases nothing"
    done = purge(ledger, timedelta(days=30), now)
    assert (done.engagements, done.spans, done.dry_run) == (told.engagements, 12, False)
    assert ids(make, ledger) == {"e5", "e6", "e7"}
    assert purge(ledger, "30d", now).engagements == ()


def test_an_engagement_that_crashed_counts_from_its_last_sign_of_life(ledger, make, say):
    say(1, phase="start", status=None, alive=False)
    journal = Journal(ledger)
    late = {"engagement_id": "e1", "trace": 1, "turn": 100}
    journal.append(make.step(103, "b", at=5 * DAY, **late))
    journal.close()
    assert purge(ledger, "30d", START + timedelta(days=34)).engagements == ()
    assert purge(ledger, "30d", START + timedelta(days=36)).engagements == ("e1",)


def test_a_naive_now_is_utc_and_an_aware_one_is_converted(ledger, say):
    say(1)
    edge = (START + timedelta(days=30, seconds=1)).replace(tzinfo=None)
    assert purge(ledger, "30d", edge - timedelta(seconds=2), dry_run=True).engagements == ()
    assert purge(ledger, "30d", edge, dry_run=True).engagements == ("e1",)
    east = (START + timedelta(days=30, seconds=1)).astimezone(timezone(timedelta(hours=9)))
    assert purge(ledger, "30d", east, dry_run=True).engagements == ("e1",)


def test_who_came_back_after_the_instant_is_kept(ledger, make, say):
    say(1)
    make.write(ledger, [make.turn(109, engagement_id="e1", trace=8, at=50 * DAY)])
    assert purge(ledger, "30d", START + timedelta(days=40)).engagements == ()


@pytest.mark.parametrize("window", ["ninety days", "-1d", timedelta(days=-1), "nan"])
def test_a_wrong_window_is_told(ledger, say, window):
    say(1)
    with pytest.raises(LedgerError, match="90"):
        purge(ledger, window)


def test_a_window_longer_than_history_erases_nothing(ledger, say):
    say(1)
    assert purge(ledger, "99999d", START).engagements == ()


def test_there_must_be_a_ledger(tmp_path):
    with pytest.raises(LedgerNotFoundError):
        purge(tmp_path / "none.duckdb", "1d")
    with pytest.raises(LedgerNotFoundError):
        forget(tmp_path / "none.duckdb", user_id="u")
    assert list(tmp_path.iterdir()) == []


def test_no_byte_of_what_was_erased_is_left_and_a_late_segment_brings_nothing_back(
    ledger, make, say
):
    mark = secrets.token_hex(40)
    said = say(1, metadata={"email": mark}, user_id=mark[:30], error_message=f"no {mark}")
    said += [
        make.llm(900, None, (1, 1), turn=None, trace=77, user_id=mark[:30], caller=mark),
        make.llm(901, None, (1, 1), turn=None, trace=77, parent_span_id=900, caller=mark),
    ]
    kept = make.llm(902, None, (1, 1), turn=None, trace=77, user_id="v", caller="other")
    make.write(ledger, [*said[3:], kept])
    say(2)
    texts = (mark, mark[:30])
    assert all(name.endswith(".ndjson") for name in holders(ledger, *texts))
    refresh(ledger)
    assert {"traces.duckdb:records", "store.duckdb:turn_facts"} <= holders(ledger, *texts)
    erased = forget(ledger, user_id=mark[:30])
    assert (erased.engagements, erased.spans) == (("e1",), 5)
    assert holders(ledger, *texts) == set()
    assert ids(make, ledger) == {"e2"}
    make.write(ledger, said)
    assert holders(ledger, *texts) != set(), "or the test could not fail"
    assert ids(make, ledger) == {"e2"}
    assert holders(ledger, *texts) == set()
    assert [row["caller"] for row in make.ask(ledger, "FROM llm_calls WHERE turn_id IS NULL")] == [
        "other"
    ]


def test_calls_outside_engagements_go_by_their_trace(ledger, make):
    mark = secrets.token_hex(40)
    old = make.llm(1, None, (1, 1), turn=None, trace=1, caller=mark)
    make.write(
        ledger,
        [
            old,
            make.llm(2, None, (1, 1), turn=None, trace=2, caller="a"),
            make.llm(3, None, (1, 1), turn=None, trace=2, at=20 * DAY, caller="b"),
        ],
    )
    erased = purge(ledger, "30d", START + timedelta(days=31))
    assert (erased.engagements, erased.spans) == ((), 1)
    assert holders(ledger, mark) == set()
    make.write(ledger, [old])
    assert [row["caller"] for row in make.ask(ledger, "FROM llm_calls ORDER BY ALL")] == ["a", "b"]


def test_everything_of_a_user_goes_whatever_its_status(ledger, make, say):
    say(1, user_id="u'42")
    say(2, user_id="u'42", phase="start", status=None)
    say(3, user_id="u'42", status="paused")
    say(4, user_id="somebody")
    # One turn of the user's is enough.
    make.write(ledger, [make.turn(409, engagement_id="e4", trace=9, user_id="u'42", at=9)])
    say(5, user_id="u")
    say(6)
    assert forget(ledger, user_id="u'42").engagements == ("e1", "e2", "e3", "e4")
    assert ids(make, ledger) == {"e5", "e6"}
    assert forget(ledger, user_id="u'42").engagements == ()
    assert forget(ledger, user_id="nobody\0\n'").spans == 0


def test_one_engagement_goes_by_its_id(ledger, make, say):
    say(1)
    say(2)
    assert forget(ledger, engagement_id="e1").engagements == ("e1",)
    assert ids(make, ledger) == {"e2"}
    # Whoever was killed after it may say it again; an id nobody ever had is a mistake.
    assert forget(ledger, engagement_id="e1").engagements == ()
    with pytest.raises(LedgerError, match="no engagement e3"):
        forget(ledger, engagement_id="e3")


@pytest.mark.parametrize(
    "names", [{}, {"user_id": "u", "engagement_id": "e"}, {"user_id": ""}, {"engagement_id": ""}]
)
def test_one_thing_is_named(ledger, say, names):
    say(1)
    with pytest.raises(LedgerError, match="either"):
        forget(ledger, **names)


VIEWS = ("engagements", "turns", "steps", "llm_calls", "events", "spans", "graphs")


def test_what_stays_is_as_if_the_rest_had_never_been(ledger, make, say, tmp_path):
    graph = {"kind": "graph", "graph_version": "g1", "name": "g", "nodes": [], "edges": []}
    make.write(ledger, [graph])
    other = tmp_path / "b" / "traces.duckdb"
    mixed = make.llm(105, 101, (50, 50), turn=200, engagement_id="e1", trace=2)
    kept = say(2, graph_version="g1")
    make.write(ledger, [mixed])
    say(1)
    before = Places.of(ledger).ledger
    refresh(ledger)
    with duckdb.connect(str(before), read_only=True) as connection:
        [(revision,)] = connection.execute("SELECT revision FROM meta").fetchall()
    forget(ledger, engagement_id="e1")
    make.write(other, [graph, *kept])
    for view in VIEWS:
        all_but = "EXCLUDE (process_id)" if view in {"turns", "steps", "spans"} else ""
        query = f"SELECT * {all_but} FROM {view} ORDER BY ALL"
        assert make.ask(ledger, query) == make.ask(other, query), view
    assert make.ask(ledger, "SELECT revision FROM meta")[0]["revision"] > revision


def test_what_could_not_be_ingested_is_erased_too(ledger, make, say):
    mark = secrets.token_hex(40)
    say(1, user_id="u")
    say(2)
    refresh(ledger)
    places = Places.of(ledger)
    lines = [
        {"kind": "turn", "engagement_id": "e1", "metadata": mark},
        {"kind": "turn", "engagement_id": "e9", "user_id": "u"},
        {"kind": "step", "engagement_id": "e9", "name": mark},
        {"kind": "step", "engagement_id": "e2", "name": "stays"},
    ]
    torn = json.dumps(lines[0]).encode()[30:]
    bad = places.journal / "x.bad"
    bad.write_bytes(b"\n".join([*(json.dumps(line).encode() for line in lines), torn]))
    for name in ("store.corrupt-20260101T000000Z.duckdb", "publishing.duckdb", "rewritten.duckdb"):
        (places.directory / name).write_text(mark)
    (places.directory / "spill" / "duckdb_temp").write_text(mark)
    told = forget(ledger, user_id="u", dry_run=True)
    assert "store.corrupt-20260101T000000Z.duckdb" in told.files
    assert mark.encode() in bad.read_bytes()
    erased = forget(ledger, user_id="u")
    assert erased.engagements == ("e1", "e9")
    assert {"x.bad", "publishing.duckdb"} < set(erased.files)
    assert holders(ledger, mark) == set()
    assert json.loads(bad.read_bytes())["name"] == "stays"


def test_a_purge_leaves_what_nobody_could_read_until_it_is_old(ledger, say):
    say(1)
    refresh(ledger)
    bad = Places.of(ledger).journal / "x.bad"
    bad.write_bytes(b'{"torn\n{"engagement_id": "e1", torn too')
    moment = (START + timedelta(days=2)).timestamp()
    os.utime(bad, (moment, moment))
    assert purge(ledger, "30d", START + timedelta(days=1)).files == ()
    assert purge(ledger, "30d", START + timedelta(days=31)).engagements == ("e1",)
    assert bad.read_bytes() == b'{"torn\n'
    os.utime(bad, (1, 1))
    assert purge(ledger, "30d", START).files == ("x.bad",)
    assert not bad.exists()


def test_a_store_that_cannot_be_written_anew_stays_as_it_was(ledger, make, say):
    say(1)
    refresh(ledger)
    places = Places.of(ledger)
    (places.directory / "rewritten.duckdb").mkdir()
    before = places.store.read_bytes()
    with pytest.raises(LedgerError, match="No row was erased"):
        forget(ledger, engagement_id="e1")
    assert places.store.read_bytes() == before
    assert ids(make, ledger) == {"e1"}


def test_every_table_is_carried_over(ledger, make, say):
    """A table that a later version adds must not be lost here."""
    say(1)
    say(2, alive=False)
    refresh(ledger)
    places = Places.of(ledger)
    with duckdb.connect(str(places.store)) as connection:
        connection.execute("INSERT INTO losses VALUES ('p', 7)")
        connection.execute("UPDATE meta SET refused_records = 5, revision = revision + 1")
        salt = connection.execute("SELECT salt FROM meta").fetchall()
    forget(ledger, engagement_id="e1")
    [meta] = make.ask(ledger, "FROM meta")
    assert (meta["refused_records"], [(meta["salt"],)]) == (5, salt)
    assert make.ask(ledger, "SELECT lost FROM losses") == [{"lost": 7}]
    assert len(make.ask(ledger, "FROM processes")) == 1
    assert places.store.stat().st_mode & 0o777 == 0o600
