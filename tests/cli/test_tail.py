"""`spanflow tail`: the last changes, then what comes, until somebody has seen enough."""

from __future__ import annotations

import json
import queue
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from spanflow.ledger.journal import Journal

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAM = Path(sys.executable).with_name("spanflow")


@contextmanager
def start(*arguments: object) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [PROGRAM, "tail", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as tail:
        try:
            yield tail
        finally:
            tail.kill()


def read(tail: subprocess.Popen[str], many: int) -> list[str]:
    """Return so many lines as they come; a program that says nothing fails the test."""
    lines: queue.Queue[str] = queue.Queue()

    def pump() -> None:
        for _ in range(many):
            lines.put(tail.stdout.readline().rstrip("\n"))

    threading.Thread(target=pump, daemon=True).start()
    return [lines.get(timeout=240) for _ in range(many)]


def test_it_shows_the_last_changes_then_new_ones_and_ends_on_ctrl_c(ledger):
    with start("--ledger", ledger, "-n", 7) as tail:
        assert read(tail, 7) == [
            "11:10:00.004  order-[bold]  llm_call   desk-large  ok · 1.0 ms · 2 tokens",
            (
                "11:10:00.009  order-[bold]  step       検索🔍[/]  failed · 8.0 ms"
                " · 2 tokens · ValueError"
            ),
            (
                "11:10:00.010  order-[bold]  turn       [red]エンゲージ🎌[/red]␛[2J�gnp  failed"
                " · 10 ms · 2 tokens · ValueError"
            ),
            "11:11:40.000  000000000003  turn       booking  started",
            "11:11:40.001  000000000003  step       intake  running",
            "11:11:40.003  000000000003  llm_call   desk-small  ok · 1.0 ms",
            "11:13:20.001  –             llm_call   desk-large  ok · 1.0 ms · 7 tokens",
        ]
        journal = Journal(ledger)
        journal.append(
            {
                "source": "capture",
                "phase": "end",
                "kind": "step",
                "status": "completed",
                "trace_id": "9" * 32,
                "span_id": "9" * 16,
                "engagement_id": "e9",
                "name": "pay",
                "path": "shop/pay",
                "turn_id": "8" * 16,
                "started_ns": 1_790_000_000_000_000_000,
                "ended_ns": 1_790_000_000_012_000_000,
            }
        )
        journal.close()
        assert read(tail, 1) == [
            "14:13:20.012  e9            step       shop/pay  completed · 12 ms"
        ]
        tail.send_signal(signal.SIGINT)
        out, err = tail.communicate(timeout=240)
    assert (tail.returncode, out, err) == (0, "", "")


def test_as_json_it_is_a_line_a_change(ledger):
    with start("--ledger", ledger, "--json", "-n", 50, "--engagement", "000000000003") as tail:
        told = [json.loads(line) for line in read(tail, 3)][:2]
        tail.send_signal(signal.SIGINT)
        assert tail.wait(120) == 0
    assert [(one["kind"], one["phase"]) for one in told] == [
        ("turn", "started"),
        ("step", "started"),
    ]
    assert {one["engagement_id"][-12:] for one in told} == {"000000000003"}
    assert told[1]["status"] == "running"


def test_it_ends_quietly_when_nobody_reads_on(ledger):
    with start("--ledger", ledger, "-n", 1) as tail:
        read(tail, 1)
        tail.stdout.close()
        journal = Journal(ledger)
        journal.append(
            {
                "source": "capture",
                "phase": "end",
                "kind": "step",
                "status": "completed",
                "trace_id": "9" * 32,
                "span_id": "9" * 16,
                "name": "pay",
                "started_ns": 1_790_000_000_000_000_000,
            }
        )
        journal.close()
        assert tail.wait(120) == 0
        assert tail.stderr.read() == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--engagement", "nobody"], "No engagement begins"), (["-n", -1], "Error")],
)
def test_what_cannot_be_shown_is_said(arguments, message, spanflow, ledger):
    answer = spanflow("tail", *arguments, "--ledger", ledger)
    assert answer.code != 0
    assert message in answer.err
