"""`spanflow ingest`: what waits, files of OTLP, other ledgers, and a side process that goes on."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from spanflow.ledger.journal import Journal
from spanflow.ledger.publish import refresh

CALL = [
    {"key": "gen_ai.operation.name", "value": {"stringValue": "chat"}},
    {"key": "gen_ai.request.model", "value": {"stringValue": "m"}},
    {"key": "gen_ai.usage.input_tokens", "value": {"intValue": "3"}},
]
PROGRAM = Path(sys.executable).with_name("spanflow")


def line(number: int) -> str:
    span = {
        "traceId": f"{number:032x}",
        "spanId": f"{number:016x}",
        "startTimeUnixNano": "1790000000000000000",
        "endTimeUnixNano": "1790000000005000000",
        "attributes": CALL,
    }
    return json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}) + "\n"


def test_without_files_what_waits_is_ingested(spanflow, ledger):
    answer = spanflow("ingest", "--ledger", ledger)
    assert (answer.code, answer.err) == (0, "")
    assert answer.out.startswith("31 records of 1 segments, 4 turns touched")
    report = json.loads(spanflow("ingest", "--ledger", ledger, "--json").out)
    assert report["records"] == 0
    assert report["changed"] is False


def test_where_there_is_no_ledger_none_is_made(spanflow, tmp_path):
    answer = spanflow("ingest", "--ledger", tmp_path / "none.duckdb")
    assert answer.code == 1
    assert "no ledger" in answer.err
    assert list(tmp_path.iterdir()) == []


def test_files_of_spans_are_taken_and_bad_lines_told(spanflow, tmp_path):
    ledger, spans, text = (tmp_path / name for name in ("t.duckdb", "spans.json", "notes.txt"))
    spans.write_text(line(1) + "torn\n" + line(2))
    text.write_text("nothing\n" * 30)
    answer = spanflow("ingest", spans, text, tmp_path / "missing.json", "--ledger", ledger)
    assert answer.code == 1
    rows = [row.split()[-4:] for row in answer.lines]
    assert rows == [
        ["kind", "spans", "records", "refused"],
        ["otlp", "2", "2", "1"],
        ["otlp", "0", "0", "30"],
        ["otlp", "0", "0", "0"],
    ]
    errors = answer.err.splitlines()
    assert f"{spans} line 2: not JSON" in errors
    assert f"{text}: … and 10 more" in errors
    assert f"spanflow: {text}: Nothing in it is OTLP JSON." in errors
    assert any("missing.json: It cannot be read: No such file" in one for one in errors)
    again = spanflow("ingest", spans, "--ledger", ledger, "--json")
    assert again.code == 0
    told = json.loads(again.out)
    assert told["files"][0]["lines"] == [{"line": 2, "reason": "not JSON"}]
    [row] = json.loads(
        spanflow("sql", "SELECT count(*) AS n, sum(input_tokens) AS t FROM llm_calls", "--json",
                 "--ledger", ledger).out
    )  # fmt: skip
    assert row == {"n": 2, "t": 6}


def test_other_ledgers_are_taken(spanflow, ledger, tmp_path):
    refresh(ledger)
    other = tmp_path / "other.duckdb"
    shutil.copy(ledger, other)
    target = tmp_path / "target.duckdb"
    answer = spanflow("ingest", other, "--ledger", target)
    assert answer.code == 0
    [row] = json.loads(
        spanflow("sql", "SELECT count(*) AS n FROM spans", "--json", "--ledger", ledger).out
    )
    spans = str(row["n"])
    assert answer.lines[1].split()[-4:] == ["ledger", spans, spans, "0"]
    lists = [json.loads(spanflow("ls", "--ledger", one, "--json").out) for one in (ledger, target)]
    for known, taken in zip(*lists, strict=True):
        # Nobody here sees the other's process: after a long silence what it left open is over.
        if known["status"] == "active":
            assert taken["status"] == "interrupted"
        else:
            assert taken == known
    itself = spanflow("ingest", target, "--ledger", target)
    assert itself.code == 1
    assert "itself" in itself.err


def test_watching_takes_no_files(spanflow, tmp_path):
    answer = spanflow("ingest", "--watch", "a.json", "--ledger", tmp_path / "t.duckdb")
    assert answer.code == 2
    assert "--watch takes no files" in answer.err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_watcher_ingests_what_others_write_until_it_is_told_to_stop(number, tmp_path):
    ledger = tmp_path / "traces.duckdb"
    command = [PROGRAM, "ingest", "--watch", "--json", "--ledger", ledger]
    journal = Journal(ledger)
    bare = {name: value for name, value in os.environ.items() if not name.startswith("SPANFLOW_")}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=bare
    ) as watcher:
        ending = threading.Timer(240, watcher.kill)
        ending.start()
        for span in (1, 2):
            journal.append(turn(span))
            journal.seal()
            assert json.loads(watcher.stdout.readline())["records"] == 1
        # The last of it is ingested and published before the watcher ends.
        journal.append(turn(3))
        journal.close()
        time.sleep(0.2)
        watcher.send_signal(number)
        out, err = watcher.communicate(timeout=240)
        ending.cancel()
    assert (watcher.returncode, err) == (0, "")
    assert [json.loads(one)["records"] for one in out.splitlines()] == [1]
    count = [PROGRAM, "sql", "SELECT count(*) FROM turns", "--ledger", ledger, "--json"]
    assert json.loads(subprocess.check_output(count)) == [{"count_star()": 3}]


def turn(span: int) -> dict[str, object]:
    began = 1_790_000_000_000_000_000 + span
    return {
        "source": "capture",
        "phase": "end",
        "kind": "turn",
        "status": "completed",
        "trace_id": f"{span:032x}",
        "span_id": f"{span:016x}",
        "engagement_id": f"e{span}",
        "started_ns": began,
        "ended_ns": began + 5_000_000,
        "turn_kind": "new",
    }


def test_a_watcher_refuses_what_is_no_ledger(tmp_path):
    foreign = tmp_path / "foreign.duckdb"
    foreign.write_text("no database" * 100)
    journal = Journal(foreign)
    journal.append(turn(1))
    journal.close()
    command = [PROGRAM, "ingest", "--watch", "--ledger", foreign]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 1
    assert "foreign.duckdb" in done.stderr
    assert foreign.read_text() == "no database" * 100
