"""Segments that hold anything but records: they cost themselves, are counted, and never block."""

from __future__ import annotations

import gzip
import random
import subprocess
import sys
from pathlib import Path

import pytest

from spanflow.ledger.ingest import ingest
from spanflow.ledger.places import Places

GOOD = b'{"kind":"span","trace_id":"%s","span_id":"%s","started_ns":1,"ended_ns":2,"phase":"end"}\n'


def good(span: int) -> bytes:
    return GOOD % (b"a" * 32, b"%016x" % span)


def packed() -> bytes:
    return gzip.compress(good(9) * 1000)


CONTENTS = {
    "noise": random.Random(5).randbytes(300_000),  # noqa: S311 - no secret
    "half an archive": packed()[: len(packed()) // 2],
    "an archive": packed(),
    "a line of 100 MB": b'{"span_id":"' + b"x" * 100_000_000 + b'"}',
    "a line of 100 MB between records": good(7) + b"y" * 100_000_000 + b"\n" + good(8),
    "no UTF-8": good(7).replace(b"span", b"\xff\xfe\xc3\x28", 1) + b"\x80\n" + good(8),
    "NUL": b"\0" * 100_000,
    "one bracket": b"[",
    "UTF-16": good(9).decode().encode("utf-16"),
    "only line ends": b"\n\r\n\n" * 1000,
    "nesting": b"[" * 100_000 + b"\n",
}


@pytest.mark.parametrize("what", CONTENTS)
def test_a_segment_of_anything_costs_itself_only(ledger, make, what):
    places = Places.of(ledger)
    make.write(ledger, [make.turn(1)])
    bad = places.journal / f"{1:020d}-somebody-1.ndjson"
    bad.write_bytes(CONTENTS[what])
    report = ingest(ledger)
    assert report.records >= 1
    for number in range(2, 4):
        make.write(ledger, [make.turn(number)])
        ingest(ledger)
    assert make.ask(ledger, "SELECT count(*) AS n FROM turns") == [{"n": 3}]
    assert not bad.exists()
    aside = list(places.journal.glob("*.bad"))
    [counted] = make.ask(
        ledger, "SELECT count AS n FROM diagnostics WHERE name = 'quarantined_segments'"
    )
    assert counted["n"] == len(aside) == report.quarantined
    if aside:
        assert aside[0].read_bytes() == CONTENTS[what], "kept as it was"


def test_a_folder_named_like_a_segment_blocks_nobody(ledger, make):
    places = Places.of(ledger)
    make.write(ledger, [make.turn(1)])
    (places.journal / f"{1:020d}-somebody-1.ndjson").mkdir()
    assert ingest(ledger).quarantined == 1
    assert make.ask(ledger, "SELECT count(*) AS n FROM turns") == [{"n": 1}]


def test_a_segment_that_is_gone_when_it_is_read_blocks_nobody(ledger, make, monkeypatch):
    from spanflow.ledger import gather

    make.write(ledger, [make.turn(1)])
    listed = gather._list  # noqa: SLF001 - between listing and reading

    def list_and_lose(places):
        found = listed(places)
        found.segments[0].path.unlink()
        return found

    with monkeypatch.context() as patched:
        patched.setattr(gather, "_list", list_and_lose)
        ingest(ledger)
    make.write(ledger, [make.turn(2)])
    assert make.ask(ledger, "SELECT count(*) AS n FROM turns") == [{"n": 1}]


def test_a_clock_that_jumps_backwards_changes_no_row_and_stops_no_publishing(ledger, make):
    """The clock that names segments and paces publishing; a span's own times come with it."""
    program = f"""
import sys, time
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
import duckdb
import conftest as make
from spanflow.ledger.ingest import ingest
from spanflow.ledger.journal import Journal
from spanflow.ledger.publish import publish
ledger = Path({str(ledger)!r})
real_ns, real = time.time_ns, time.time
ahead = [0.0]
time.time_ns = lambda: real_ns() + int(ahead[0] * 1e9)
time.time = lambda: real() + ahead[0]
journal = Journal(ledger, segment_seconds=1000)
def turns():
    with duckdb.connect(str(ledger), read_only=True) as connection:
        rows = connection.execute("SELECT outcome FROM turns ORDER BY turn_id").fetchall()
    return [outcome for (outcome,) in rows]
for number, jump in enumerate((0, -3600, 0, -86400 * 400, 86400 * 4000, 5), start=1):
    ahead[0] = jump
    journal.append(make.turn(number, phase="start"))
    if number > 1:
        journal.append(make.turn(number - 1))
    assert ingest(ledger).records
    assert publish(ledger) or jump in (0, 5), jump
    publish(ledger, force=True)
    assert turns() == ["completed"] * (number - 1) + [None], turns()
"""
    subprocess.run([sys.executable, "-c", program], check=True)
