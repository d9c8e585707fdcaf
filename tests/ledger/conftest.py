"""A factory of records, and a ledger to read them back from."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from spanflow.ledger.journal import Journal
from spanflow.ledger.publish import refresh

if TYPE_CHECKING:
    from pathlib import Path

T0 = 1_790_000_000_000_000_000
MS = 1_000_000


def ident(number: int, digits: int = 16) -> str:
    return f"{number:0{digits}x}"


def record(
    kind: str, span: int, *, phase: str = "end", turn: int | None = 1, **fields: Any
) -> dict[str, Any]:
    """One record; `at` and `until` are milliseconds after T0, spans and turns small numbers."""
    at, until = fields.pop("at", 0), fields.pop("until", None)
    made: dict[str, Any] = {
        "source": "capture",
        "phase": phase,
        "kind": kind,
        "trace_id": ident(fields.pop("trace", 1), 32),
        "span_id": ident(span),
        "started_ns": T0 + at * MS,
        "service_name": "shop",
    }
    if turn is not None:
        made["turn_id"] = ident(turn)
        made["engagement_id"] = "e1"
    if phase == "end":
        made["ended_ns"] = T0 + (until if until is not None else at + 1) * MS
    for key in ("parent_span_id", "step_id", "parent_step_id"):
        if isinstance(fields.get(key), int):
            fields[key] = ident(fields[key])
    return made | fields


def turn(span: int = 1, **fields: Any) -> dict[str, Any]:
    fields.setdefault("status", "completed" if fields.get("phase", "end") == "end" else None)
    return record("turn", span, turn=span, **{"name": "booking", "turn_kind": "new"} | fields)


def step(span: int, name: str, **fields: Any) -> dict[str, Any]:
    fields.setdefault("status", "completed" if fields.get("phase", "end") == "end" else "running")
    return record("step", span, name=name, **{"path": name} | fields)


def llm(
    span: int, in_step: int | None, tokens: tuple[int, int] | None = None, **fields: Any
) -> dict[str, Any]:
    spent = {} if tokens is None else {"input_tokens": tokens[0], "output_tokens": tokens[1]}
    given = {"status": "ok", "model": "m", "operation": "chat", "scope": "spanflow"} | spent
    if in_step is not None:
        given |= {"step_id": in_step, "parent_span_id": in_step}
    return record("llm", span, **given | fields)


def tool(span: int, in_step: int, name: str = "lookup", **fields: Any) -> dict[str, Any]:
    given = {
        "status": "ok",
        "name": name,
        "scope": "spanflow",
        "step_id": in_step,
        "parent_span_id": in_step,
    }
    return record("tool", span, **given | fields)


def write(ledger: Path, records: list[dict[str, Any]], **options: Any) -> None:
    """Write records as a process that then lives on."""
    journal = Journal(ledger, **options)
    for one in records:
        assert journal.append(one)
    journal.seal()
    _kept_alive.append(journal)


def close(ledger: Path) -> None:
    """End the processes that wrote this ledger."""
    for journal in [one for one in _kept_alive if one.path == ledger.resolve()]:
        journal.close()


_kept_alive: list[Journal] = []


def ask(ledger: Path, query: str) -> list[dict[str, Any]]:
    """Bring the ledger up to date and ask it."""
    from asked import asked  # not found by processes that only want records

    refresh(ledger)
    return asked(ledger, query)


@pytest.fixture(scope="session")
def make() -> SimpleNamespace:
    return SimpleNamespace(
        T0=T0,
        MS=MS,
        ident=ident,
        record=record,
        turn=turn,
        step=step,
        llm=llm,
        tool=tool,
        write=write,
        close=close,
        ask=ask,
    )


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    yield tmp_path / "traces.duckdb"
    for journal in _kept_alive:
        journal.close()
    _kept_alive.clear()
