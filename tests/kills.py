"""Kill writers and ingesters of one ledger at any moment, and count what that cost.

The oracle is a pipe: a writer says the number of each record right after it has appended it, so
whatever was said must be found, once and with its values. `make bench` uses this too.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
from asked import connected

from spanflow.ledger.ingest import BackgroundIngester, ingest
from spanflow.ledger.journal import Journal
from spanflow.ledger.publish import publish, refresh

T0 = 1_790_000_000_000_000_000
WRITERS = 4
INGESTERS = 2
PATIENCE_S = 1.6
"""For each kill: how long they may go on at most."""
LEAST_PUBLICATIONS = 3
"""On a machine too busy to publish between two kills, the kills go on until it did."""
SLOWER = 1.05
"""How much longer each of those further kills is waited for: what is left to bring in grows too."""
LEDGER_CODE = f"{os.sep}ledger{os.sep}"

# The records of one engagement in their order: kind, phase, the span's number in it, and where the
# engagement is left when the process dies right after that record.
EVENTS = (
    ("turn", "start", 0, None),
    ("step", "start", 1, "a"),
    ("llm", "end", 2, "a"),
    ("step", "end", 1, "a"),
    ("step", "start", 3, "b"),
    ("step", "end", 3, "b"),
    ("turn", "end", 0, None),
)
ENDS = {1: 3, 2: 2, 3: 5, 0: 6}
"""Which event of an engagement ends which span."""


def span_id(life: int, number: int, span: int) -> str:
    return f"{life + 1:04x}{number:011x}{span:01x}"


def tokens(life: int, number: int) -> int:
    return (life * 31 + number * 7) % 97 + 1


def event(life: int, count: int) -> dict[str, Any]:
    """Return the record with this number of one writer's life."""
    number, at = divmod(count, len(EVENTS))
    kind, phase, span, _ = EVENTS[at]
    step = span_id(life, number, 1)
    made: dict[str, Any] = {
        "source": "capture",
        "kind": kind,
        "phase": phase,
        "trace_id": f"{life + 1:032x}",
        "span_id": span_id(life, number, span),
        "turn_id": span_id(life, number, 0),
        "engagement_id": f"e{life}-{number}",
        "started_ns": T0 + (number * 10 + span) * 1_000_000,
    }
    if phase == "end":
        made["ended_ns"] = made["started_ns"] + at * 1_000_000
        made["status"] = "ok" if kind == "llm" else "completed"
    if kind == "llm":
        made |= {"step_id": step, "parent_span_id": step, "model": "m", "operation": "chat"}
        made |= {"input_tokens": tokens(life, number), "output_tokens": 1, "scope": "spanflow"}
    elif kind == "step":
        made["name"] = made["path"] = "a" if span == 1 else "b"
    else:
        made |= {"name": "booking", "turn_kind": "new"}
    return made


def write(ledger: Path, life: int) -> None:
    journal = Journal(ledger, segment_bytes=20_000, segment_seconds=0.05)
    if life % 4 == 1:
        BackgroundIngester(ledger, journal, interval_s=0.2).start()
    for count in itertools.count():
        assert journal.append(event(life, count))
        os.write(1, b"%d\n" % count)
        time.sleep(0.003)


def bring_in(ledger: Path, dies_at: int) -> None:
    """Ingest and publish, and die before the given line of the ledger's own code."""
    lines = itertools.count()

    def trace(frame: Any, what: str, _: Any) -> Any:
        if LEDGER_CODE not in frame.f_code.co_filename:
            return None
        if what == "line" and next(lines) == dies_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return trace

    os.write(1, b"0\n")
    sys.settrace(trace)
    while True:
        ingest(ledger)
        publish(ledger, force=True)
        time.sleep(0.02)


def watch(ledger: Path) -> None:
    """Read the published file over and over until the input ends."""
    over = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()
    reads, most, worst, errors = 0, 0, 0.0, []
    while not over.is_set():
        if not ledger.exists():
            time.sleep(0.01)
            continue
        began = time.monotonic()
        try:
            with connected(ledger) as connection:
                [(count,)] = connection.execute("SELECT count(*) FROM engagements").fetchall()
        except duckdb.Error as error:
            errors.append(str(error))
            continue
        worst = max(worst, time.monotonic() - began)
        if count < most:
            errors.append(f"{count} engagements after {most}")
        reads, most = reads + 1, max(most, count)
        time.sleep(0.02)
    sys.stdout.write(json.dumps({"reads": reads, "worst_s": worst, "errors": errors[:5]}))


class Running:
    """One process that is going to be killed, and the last number it said."""

    def __init__(self, ledger: Path, role: str, number: int) -> None:
        self.role, self.number, self.said = role, number, -1
        self.process = subprocess.Popen(
            [sys.executable, __file__, role, str(ledger), str(number)], stdout=subprocess.PIPE
        )
        self._listener = threading.Thread(target=self._listen)
        self._listener.start()

    def _listen(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.said = int(line)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self._listener.join()
        assert self.process.stdout
        self.process.stdout.close()


@dataclass
class Outcome:
    """What the kills cost."""

    kills: int = 0
    rows: int = 0
    promised: int = 0
    lost: list[str] = field(default_factory=list)
    doubled: int = 0
    wrong: list[str] = field(default_factory=list)
    interrupted: int = 0
    publications: int = 0
    reads: int = 0
    worst_read_s: float = 0.0
    reader_errors: list[str] = field(default_factory=list)


class Killing:
    """Processes that are killed and started again, and what the dead had said."""

    def __init__(self, ledger: Path, seed: int) -> None:
        self.chance = random.Random(seed)  # noqa: S311 - no secret
        self.kills = 0
        self.told: dict[int, int] = {}
        self._ledger = ledger
        self._lives = itertools.count()
        self.running = [self._start("write") for _ in range(WRITERS)]
        self.running += [self._start("bring_in") for _ in range(INGESTERS)]

    def _start(self, role: str) -> Running:
        # An ingester dies before the n-th line of our code, soon or late.
        number = next(self._lives) if role == "write" else int(10 ** self.chance.uniform(1, 5))
        return Running(self._ledger, role, number)

    def end(self, one: Running) -> None:
        one.kill()
        self.running.remove(one)
        self.kills += one.process.returncode == -signal.SIGKILL
        if one.role == "write":
            self.told[one.number] = one.said
            if self.chance.random() < 0.3:
                _tear(self._ledger, one)

    def replace(self, one: Running) -> None:
        self.end(one)
        self.running.append(self._start(one.role))

    def strike(self) -> None:
        """Kill one that has begun to work; seldom an ingester, or nothing were ever published."""
        for one in [one for one in self.running if one.process.poll() is not None]:
            self.replace(one)
        role = "write" if self.chance.random() < 0.9 else "bring_in"
        ready = [one for one in self.running if one.said >= 0 and one.role == role]
        if ready:
            self.replace(self.chance.choice(ready))

    def wait_for_writers(self) -> float:
        """Wait until all writers have written, and return how many seconds that took."""
        began = time.monotonic()
        while any(one.said < 0 for one in self.running if one.role == "write"):
            time.sleep(0.005)
        return time.monotonic() - began


def run(ledger: Path, kills: int, seed: int = 7) -> Outcome:
    """Kill until there were that many kills, bring everything in, and compare."""
    reader = subprocess.Popen(
        [sys.executable, __file__, "watch", str(ledger), "0"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    killing = Killing(ledger, seed)
    # On a busy machine everything takes longer, and kills must not come faster than any work.
    pause_s = killing.wait_for_writers() / 2
    seen: set[int] = set()
    patience = time.monotonic() + kills * PATIENCE_S
    while not (enough := killing.kills >= kills - len(killing.running)) or (
        len(seen) < LEAST_PUBLICATIONS and time.monotonic() < patience
    ):
        pause_s *= SLOWER if enough else 1
        time.sleep(pause_s * killing.chance.uniform(0.1, 1.0))
        with contextlib.suppress(FileNotFoundError):
            seen.add(ledger.stat().st_mtime_ns)
        killing.strike()
    killing.wait_for_writers()
    for one in tuple(killing.running):
        killing.end(one)
    refresh(ledger)
    out, _ = reader.communicate("", timeout=240)
    read = json.loads(out)
    outcome = Outcome(
        kills=killing.kills,
        publications=len(seen),
        reads=read["reads"],
        worst_read_s=read["worst_s"],
        reader_errors=read["errors"],
    )
    _compare(ledger, killing.told, outcome)
    _take_back(ledger, killing.told, outcome)
    return outcome


def _tear(ledger: Path, dead: Running) -> None:
    """Leave half a record at the end of what a dead writer wrote."""
    half = json.dumps(event(dead.number, dead.said + 1)).encode()[:70]
    for segment in Path(f"{ledger}.d/journal").glob(f"*-{dead.process.pid}-*.open"):
        # An ingester may take it at this very moment.
        with contextlib.suppress(FileNotFoundError):
            descriptor = os.open(segment, os.O_WRONLY | os.O_APPEND)
            os.write(descriptor, half)
            os.close(descriptor)


def _ask(ledger: Path, query: str) -> list[tuple[Any, ...]]:
    with duckdb.connect(str(ledger), read_only=True) as connection:
        return connection.execute(query).fetchall()


def _compare(ledger: Path, told: dict[int, int], outcome: Outcome) -> None:
    rows = _ask(ledger, "SELECT span_id, phase, started_ns, ended_ns FROM spans")
    spans = {row[0]: row[1:] for row in rows}
    outcome.rows, outcome.doubled = len(rows), len(rows) - len(spans)
    found = {
        row[0]: row[1:]
        for row in _ask(
            ledger, "SELECT engagement_id, status, dropped_at, input_tokens FROM engagements"
        )
    }
    for life, said in told.items():
        for count in range(said + 1):
            record = event(life, count)
            if record["phase"] != "end":
                continue
            outcome.promised += 1
            wanted = ("end", record["started_ns"], record["ended_ns"])
            if spans.get(record["span_id"]) != wanted:
                outcome.lost.append(record["span_id"])
        whole, at = divmod(said + 1, len(EVENTS))
        for number in range(whole):
            state = found.get(f"e{life}-{number}")
            if state != ("completed", None, tokens(life, number)):
                outcome.wrong.append(f"e{life}-{number}: {state}")
        # It may have appended one record more than it could still tell of.
        state = found.get(f"e{life}-{whole}")
        possible = {_state(at), _state(at + 1)}
        if (state[:2] if state else None) not in possible:
            outcome.wrong.append(f"e{life}-{whole}: {state} is none of {possible}")
        outcome.interrupted += state is not None and state[0] == "interrupted"


def _state(records: int) -> tuple[str, str | None] | None:
    """Return status and drop of an engagement whose process died after so many records."""
    if records == 0:
        return None
    return ("completed" if records == len(EVENTS) else "interrupted", EVENTS[records - 1][3])


def _take_back(ledger: Path, told: dict[int, int], outcome: Outcome) -> None:
    """Tell late what the dead did not: nothing stays interrupted."""
    journal = Journal(ledger)
    for life, said in told.items():
        whole = (said + 1) // len(EVENTS)
        for at in range(len(EVENTS)):
            journal.append(event(life, whole * len(EVENTS) + at))
    journal.close()
    refresh(ledger)
    left = _ask(ledger, "SELECT engagement_id, status FROM engagements WHERE status <> 'completed'")
    outcome.wrong += [f"{one} is {status} after its late end" for one, status in left]
    [(rows, spans)] = _ask(ledger, "SELECT count(*), count(DISTINCT span_id) FROM spans")
    outcome.doubled += rows - spans


if __name__ == "__main__":
    {"write": write, "bring_in": bring_in, "watch": lambda ledger, _: watch(ledger)}[sys.argv[1]](
        Path(sys.argv[2]), int(sys.argv[3])
    )
