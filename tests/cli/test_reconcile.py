"""`reconcile`: what a person sees, what a machine gets, and how it ends."""

from __future__ import annotations

import json

from spanflow.ledger.journal import Journal


def written(path, *records):
    journal = Journal(path)
    for number, record in enumerate(records, 1):
        journal.append(
            {
                "source": "capture",
                "phase": "end",
                "trace_id": f"{1:032x}",
                "span_id": f"{number:016x}",
                "turn_id": f"{1:016x}",
                "engagement_id": "an-engagement",
                "started_ns": 1_790_000_000_000_000_000 + number,
                "ended_ns": 1_790_000_000_000_000_100 + number,
                **record,
            }
        )
    journal.seal()
    return path


TURN = {"kind": "turn", "status": "completed", "name": "booking"}


def test_where_all_agree_it_says_so(spanflow, tmp_path):
    path = written(tmp_path / "traces.duckdb", TURN)
    answer = spanflow("reconcile", "--ledger", path)
    assert (answer.code, answer.out) == (0, "Spans, ledger and frameworks agree.\n")
    assert json.loads(spanflow("reconcile", "--ledger", path, "--json").out) == []


def test_what_disagrees_is_listed_and_ends_with_1(spanflow, tmp_path):
    told = {"spanflow.usage.llm_calls": 2, "spanflow.usage.total_tokens": 9}
    path = written(
        tmp_path / "traces.duckdb",
        {**TURN, "attributes": told},
        {"kind": "llm", "status": "ok", "model": "m", "scope": "spanflow"},
    )
    answer = spanflow("reconcile", "--ledger", path)
    assert answer.code == 1
    shown = [line.split() for line in answer.lines]
    # The span's id gives way.
    assert [[cell for cell in line if "…" not in cell] for line in shown] == [
        ["engagement", "what", "span", "field", "on", "spans", "in", "ledger", "why"],
        ["an-engagemen", "call", "total", "–", "–", "missing_usage"],
        ["an-engagemen", "turn", "llm_calls", "2", "1", "lost_record"],
        ["an-engagemen", "turn", "total", "9", "–", "lost_record"],
        ["2", "lost_record,", "1", "missing_usage"],
    ]
    assert max(map(len, answer.lines)) <= 80
    rows = json.loads(spanflow("reconcile", "--ledger", path, "--json").out)
    assert [(row["what"], row["field"], row["reason"]) for row in rows] == [
        ("call", "total_tokens", "missing_usage"),
        ("turn", "llm_calls", "lost_record"),
        ("turn", "total_tokens", "lost_record"),
    ]
