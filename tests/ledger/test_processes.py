"""Forked, killed and competing processes: nothing lost, nothing twice."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from datetime import timedelta
from pathlib import Path

import duckdb
import pytest
from asked import answer

from spanflow.ledger.ingest import BackgroundIngester, ingest
from spanflow.ledger.journal import Journal

PRELUDE = f"""
import os, sys, time
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
import conftest as make
from spanflow.ledger.journal import Journal
from spanflow.ledger.ingest import BackgroundIngester, ingest
from spanflow.ledger.publish import publish, refresh
ledger = Path(sys.argv[1])
"""


def start(ledger: Path, body: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PRELUDE + textwrap.dedent(body), str(ledger), *arguments],
        stdout=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> str:
    out, _ = process.communicate(timeout=240)
    assert process.returncode == 0
    return out


def test_what_had_begun_when_the_process_was_killed_reads_interrupted(ledger, make):
    process = start(
        ledger,
        """
        journal = Journal(ledger)
        journal.append(make.turn(phase="start"))
        journal.append(make.step(2, "a", phase="start"))
        journal.append(make.llm(3, 2, (2, 2)))
        journal.append(make.step(2, "a", at=1))
        journal.append(make.step(4, "b", at=5, phase="start"))
        print("written", flush=True)
        time.sleep(60)
        """,
    )
    assert process.stdout
    process.stdout.readline()
    assert ingest(ledger).segments == 0, "a living process's segment is its own"
    process.kill()
    process.communicate()
    assert make.ask(ledger, "SELECT status, dropped_at, total_tokens FROM engagements") == [
        {"status": "interrupted", "dropped_at": "b", "total_tokens": 4}
    ]
    assert make.ask(ledger, "SELECT outcome FROM turns") == [{"outcome": "interrupted"}]
    assert make.ask(ledger, "SELECT path, status FROM steps ORDER BY path") == [
        {"path": "a", "status": "completed"},
        {"path": "b", "status": "interrupted"},
    ]
    assert list(Path(f"{ledger}.d/journal").iterdir()) == []
    make.write(ledger, [make.turn(until=90), make.step(4, "b", at=5, until=80)])
    assert make.ask(ledger, "SELECT status FROM engagements") == [{"status": "completed"}], (
        "taken back"
    )


def test_a_torn_last_line_of_a_dead_process_costs_that_line_only(ledger, make):
    journal = Journal(ledger)
    for one in (make.turn(), make.step(2, "a")):
        journal.append(one)
    journal.close()
    [segment] = journal.directory.glob("*.ndjson")
    with segment.open("ab") as torn:
        torn.write(json.dumps(make.step(3, "b")).encode()[:50])
    # As if it had died before it could seal.
    segment.rename(segment.with_suffix(".open"))
    report = ingest(ledger)
    assert (report.records, report.refused) == (2, 1)
    assert len(make.ask(ledger, "FROM steps")) == 1


def test_a_forked_child_writes_as_a_process_of_its_own(ledger, make):
    out = finish(
        start(
            ledger,
            """
            journal = Journal(ledger)
            journal.append(make.turn(1))
            mine = journal.process_id
            child = os.fork()
            if child == 0:
                journal.append(make.turn(5))
                os._exit(0 if journal.process_id != mine and journal.written == 1 else 1)
            assert os.waitpid(child, 0)[1] == 0
            from spanflow.ledger.process import is_alive
            assert is_alive(journal.directory / f"{mine}.alive")
            report = ingest(ledger)
            assert report.records == 2, report
            journal.append(make.turn(9))
            os._exit(0)
            """,
        )
    )
    assert out == ""
    assert len(make.ask(ledger, "SELECT DISTINCT process_id FROM turns")) == 2
    assert len(make.ask(ledger, "FROM turns")) == 3


def test_a_child_that_outlives_its_parent_does_not_keep_it_alive(ledger, make):
    process = start(
        ledger,
        """
        journal = Journal(ledger)
        journal.append(make.turn(1, phase="start"))
        ready, told = os.pipe()
        child = os.fork()
        if child == 0:
            os.write(told, b"!")
            os.closerange(0, 3)
            time.sleep(30)
            os._exit(0)
        os.read(ready, 1)
        print(child, flush=True)
        os._exit(0)
        """,
    )
    child = int(finish(process))
    try:
        assert make.ask(ledger, "SELECT outcome FROM turns") == [{"outcome": "interrupted"}]
    finally:
        os.kill(child, signal.SIGKILL)


def test_a_long_ingest_draws_no_progress_into_the_apps_output(ledger):
    """DuckDB would, in a program that has no file of its own."""
    asked = """
        from spanflow.ledger.places import Places
        from spanflow.ledger.store import open_store
        places = Places.of(ledger)
        places.make()
        with open_store(places) as connection:
            print(connection.execute("SELECT current_setting('enable_progress_bar')").fetchall())
        """
    assert finish(start(ledger, asked)) == "[(False,)]\n"


def test_forks_while_an_ingester_works_lose_nothing(ledger, make):
    finish(
        start(
            ledger,
            """
            journal = Journal(ledger, segment_seconds=0.01)
            ingester = BackgroundIngester(ledger, journal, interval_s=0.01)
            ingester.start()
            children = []
            for n in range(8):
                journal.append(make.turn(1000 + n))
                time.sleep(0.05)
                child = os.fork()
                if child == 0:
                    for k in range(20):
                        journal.append(make.turn(10000 + n * 100 + k))
                        time.sleep(0.002)
                    ingester.stop(120)
                    os._exit(0)
                children.append(child)
            for child in children:
                assert os.waitpid(child, 0)[1] == 0
            ingester.stop(120)
            """,
        )
    )
    assert make.ask(ledger, "SELECT count(*) AS n, count(DISTINCT turn_id) AS d FROM turns") == [
        {"n": 168, "d": 168}
    ]
    assert make.ask(
        ledger, "SELECT count(*) AS n FROM turns WHERE outcome IS DISTINCT FROM 'completed'"
    ) == [{"n": 0}]


WRITER = """
journal = Journal(ledger, segment_bytes=20_000, segment_seconds=0.05)
ingester = BackgroundIngester(ledger, journal, interval_s=0.05)
ingester.start()
base = int(sys.argv[2])
for n in range(int(sys.argv[3])):
    journal.append(make.turn(base + 10 * n, phase="start"))
    journal.append(make.step(base + 10 * n + 1, "a", turn=base + 10 * n))
    journal.append(make.llm(base + 10 * n + 2, base + 10 * n + 1, (1, 1), turn=base + 10 * n))
    journal.append(make.turn(base + 10 * n))
    print(n, flush=True)
    time.sleep(0.001)
ingester.stop(120)
"""


def test_two_writers_and_a_reader_at_once(ledger, make):
    writers = [start(ledger, WRITER, str(base), "300") for base in (10**6, 10**7)]
    seen = 0
    while any(writer.poll() is None for writer in writers):
        if ledger.exists():
            [(count,)] = answer(ledger, "SELECT count(*) FROM turns")[1]
            assert count >= seen
            seen = count
        time.sleep(0.02)
    for writer in writers:
        finish(writer)
    [totals] = make.ask(
        ledger, "SELECT count(*) AS n, sum(total_tokens) AS t, sum(steps) AS s FROM turns"
    )
    assert totals == {"n": 600, "t": 1200, "s": 600}


@pytest.mark.slow
def test_killing_writers_and_ingesters_at_any_moment_loses_and_doubles_nothing(ledger, make):
    """What a process said it had written before it was killed is there, once."""
    chance = random.Random(7)  # noqa: S311 - no secret
    promised: dict[int, int] = {}
    for round_number in range(6):
        bases = [10**6 * (2 * round_number + k + 1) for k in range(2)]
        writers = [(base, start(ledger, WRITER, str(base), "100000")) for base in bases]
        for _, writer in writers:
            assert writer.stdout
            writer.stdout.readline()
        time.sleep(chance.uniform(0.1, 0.7))
        for base, writer in writers:
            writer.send_signal(signal.SIGKILL)
            out, _ = writer.communicate()
            numbers = [int(line) for line in out.splitlines() if line]
            promised[base] = max(numbers, default=0)
    rows = make.ask(ledger, "SELECT turn_id, outcome, steps, total_tokens FROM turns")
    found: dict[int, dict] = {int(row["turn_id"], 16): row for row in rows}
    assert len(found) == len(rows), "no turn twice"
    for base, last in promised.items():
        for number in range(last + 1):
            turn = found[base + 10 * number]
            assert (turn["outcome"], turn["steps"], turn["total_tokens"]) == ("completed", 1, 2)
    [spans] = make.ask(ledger, "SELECT count(*) AS n, count(DISTINCT span_id) AS d FROM spans")
    assert spans["n"] == spans["d"]
    assert not list(Path(f"{ledger}.d/journal").iterdir())


def test_a_background_ingester_publishes_by_itself_and_at_the_end(ledger, make):
    journal = Journal(ledger)
    ingester = BackgroundIngester(ledger, journal, interval_s=0.05)
    ingester.start()
    journal.append(make.turn(phase="start"))
    deadline = time.monotonic() + 120
    while not ledger.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    journal.append(make.turn())
    ingester.stop(120)
    with duckdb.connect(str(ledger), read_only=True) as connection:
        assert connection.execute("SELECT outcome FROM turns").fetchall() == [("completed",)]


def test_a_process_that_recorded_nothing_leaves_others_segments_alone(ledger, make):
    make.write(ledger, [make.turn()])
    idle = BackgroundIngester(ledger, Journal(ledger))
    assert idle.run_once(force=True).segments == 0
    assert not ledger.exists()


def test_a_round_without_news_opens_no_store(ledger, make, monkeypatch):
    journal = Journal(ledger)
    ingester = BackgroundIngester(ledger, journal, idle_after=timedelta(hours=1))
    journal.append(make.turn(1))
    journal._lose(2)  # noqa: SLF001 - as a full disk would make it
    assert ingester.run_once(force=True).records == 1
    store = Path(f"{ledger}.d/store.duckdb")
    store.rename(store.with_suffix(".away"))
    store.mkdir()  # whoever opens it now fails
    before = {path: path.stat().st_mtime_ns for path in Path(f"{ledger}.d").rglob("*")}
    for _ in range(3):
        assert ingester.run_once().changed is False
    lock = Path(f"{ledger}.d/ingest.lock")
    after = {path: path.stat().st_mtime_ns for path in Path(f"{ledger}.d").rglob("*")}
    assert {path for path in before if before[path] != after[path]} <= {lock}
    journal.close()


def test_an_ingest_that_outlasts_the_exit_does_not_abort_the_process(tmp_path: Path) -> None:
    """A thread still inside DuckDB when the interpreter goes down would end it by SIGABRT."""
    script = textwrap.dedent(
        """
        import sys, time
        from pathlib import Path
        from spanflow.ledger import gather, ingest, store
        from spanflow.ledger.journal import Journal

        real = store.open_store

        import contextlib

        @contextlib.contextmanager
        def slow(places, pace):
            with real(places, pace) as connection:
                Path("inside").write_text("")
                connection.execute(
                    "SELECT count(*) FROM range(1000000000) a, range(1000000000) b "
                    "WHERE a.range % 7 = b.range % 3"
                )
                yield connection

        store.open_store = slow
        journal = Journal(Path("t.duckdb"))
        journal.append({"kind": "turn", "trace_id": "1" * 32, "span_id": "2" * 16})
        background = ingest.BackgroundIngester(Path("t.duckdb"), journal, interval_s=0.01)
        background.start()
        while not Path("inside").exists():
            time.sleep(0.01)
        background.stop(0.2)
        print("left")
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "left\n", "")


def test_a_round_that_took_long_is_followed_by_a_longer_pause(ledger):
    ingester = BackgroundIngester(ledger, Journal(ledger), interval_s=2.0)

    def pauses(worked_s: float) -> list[float]:
        return [ingester._next_pause_s(worked_s) for _ in range(200)]  # noqa: SLF001

    for worked_s, around_s in ((0.0, 2.0), (0.05, 2.0), (0.3, 6.0), (60.0, 20.0)):
        found = pauses(worked_s)
        assert around_s * 0.75 <= min(found) <= max(found) <= around_s * 1.25
        assert max(found) - min(found) > around_s * 0.2, "processes do not march in step"
