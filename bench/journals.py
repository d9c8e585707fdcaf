"""Journals like an agent in production writes them, at any size, without running one.

An engagement is one turn of five steps, each with a model call, two with a tool call: 13 spans, of
which turn and steps have a record for their begin, too. A lean one has eight: its five steps are
one of several ways, some of which go round or end early, and only the first two call a model.
"""

from __future__ import annotations

import random
from collections import Counter
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["SPANS_PER_ENGAGEMENT", "write"]

SPANS_PER_ENGAGEMENT = 13
_T0_NS = 1_790_000_000_000_000_000
_MS = 1_000_000
_APART_MS = 300
_STEPS = ("intake", "search", "compare", "apply", "submitted")
_WITH_TOOL = frozenset({"search", "compare"})
_WAYS = (
    _STEPS,
    ("intake", "search", "search", "apply", "submitted"),
    ("intake", "search", "compare", "search", "compare"),
    ("intake", "search", "compare", "compare", "apply"),
    ("intake", "intake", "search", "compare", "compare"),
)
_LEAN_CALLS = 2
_SEGMENT_BYTES = 8 * 1024 * 1024
_PROCESS = "0badcafe-1234-19a5b0c0d0e-0a1b2c3d"


def write(journal: Path, engagements: int, *, first: int = 0, lean: bool = False) -> int:
    """Write sealed segments of a process that is gone; return their size in bytes.

    Args:
        journal: The ledger's folder of segments, made where missing.
        engagements: How many.
        first: The number of the first one; two calls with numbers apart make different ones.
        lean: Make lean ones.
    """
    journal.mkdir(parents=True, exist_ok=True)
    written = 0
    lines: list[bytes] = []
    size = 0
    segment = 0

    def seal() -> None:
        nonlocal segment, size, written
        name = f"{_T0_NS + first * 1_000 + segment:020d}-{_PROCESS}-{first + segment}.ndjson"
        (journal / name).write_bytes(b"".join(lines))
        lines.clear()
        written += size
        segment, size = segment + 1, 0

    for record in _records(engagements, first, lean=lean):
        line = orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE)
        lines.append(line)
        size += len(line)
        if size > _SEGMENT_BYTES:
            seal()
    seal()
    return written


def _records(engagements: int, first: int, *, lean: bool) -> Iterator[dict[str, Any]]:
    chance = random.Random(first)
    for number in range(first, first + engagements):
        yield from _engagement(chance, number, lean=lean)


def _engagement(chance: random.Random, number: int, *, lean: bool) -> Iterator[dict[str, Any]]:
    begun = now = _T0_NS + number * _APART_MS * _MS
    milliseconds = f"{begun // _MS:012x}"
    turn_id = _hexadecimal(chance, 64)
    shared = {
        "v": 1,
        "source": "capture",
        "process_id": _PROCESS,
        "trace_id": _hexadecimal(chance, 128),
        "engagement_id": f"{milliseconds[:8]}-{milliseconds[8:]}-7{_hexadecimal(chance, 12)}-"
        f"9{_hexadecimal(chance, 12)}-{_hexadecimal(chance, 48)}",
        "turn_id": turn_id,
        "service_name": "shop",
        "scope": "spanflow",
    }
    turn = {
        **shared,
        "kind": "turn",
        "span_id": turn_id,
        "name": "booking",
        "started_ns": begun,
        "turn_kind": "new",
        "graph_version": "5a1f0c9d2b7e4a31",
        "on_thread": True,
        "user_id": f"u-{chance.randrange(100_000)}",
        "session_id": f"s-{number}",
        "conversation_id": f"t-{number}",
        "metadata": {"tier": chance.choice(("free", "pro")), "campaign": chance.choice("abcdef")},
        "goals": ["submitted"],
    }
    yield {**turn, "phase": "start"}
    visits: Counter[str] = Counter()
    for superstep, name in enumerate(chance.choice(_WAYS) if lean else _STEPS, start=1):
        visits[name] += 1
        step_id = _hexadecimal(chance, 64)
        step = {
            **shared,
            "kind": "step",
            "span_id": step_id,
            "parent_span_id": turn_id,
            "step_id": step_id,
            "name": name,
            "path": name,
            "visit": visits[name],
            "superstep": superstep,
            "started_ns": now,
        }
        yield {**step, "phase": "start", "status": "running"}
        call = {**shared, "phase": "end", "parent_span_id": step_id, "step_id": step_id}
        if not lean or superstep <= _LEAN_CALLS:
            llm = _llm(chance, now)
            yield {**call, **llm}
            now = llm["ended_ns"]
        if name in _WITH_TOOL and not lean:
            yield {**call, **_tool(chance, now)}
            now += 50 * _MS
        now += chance.randrange(100_000, 900_000)
        yield {**step, "phase": "end", "status": "completed", "attempts": 1, "ended_ns": now} | (
            {"goal": name} if name == _STEPS[-1] else {}
        )
    status = "paused" if lean and not number % 10 and not visits[_STEPS[-1]] else "completed"
    yield {**turn, "phase": "end", "status": status, "ended_ns": now}


def _llm(chance: random.Random, now: int) -> dict[str, Any]:
    asked, answered = chance.randrange(20, 4_000), chance.randrange(5, 800)
    return {
        "kind": "llm",
        "span_id": _hexadecimal(chance, 64),
        "operation": "chat",
        "provider": "openai",
        "model": chance.choice(("gpt-5-mini", "gpt-5")),
        "request_model": "gpt-5-mini",
        "response_id": f"chatcmpl-{_hexadecimal(chance, 96)}",
        "started_ns": now,
        "ended_ns": now + chance.randrange(200, 3_000) * _MS,
        "status": "ok",
        "input_tokens": asked,
        "output_tokens": answered,
        "total_tokens": asked + answered,
        "cache_read_tokens": asked // 3,
        "attributes": {
            "gen_ai.request.temperature": 0.2,
            "server.address": "api.example.com",
            "gen_ai.response.finish_reasons": ["stop"],
        },
    }


def _tool(chance: random.Random, now: int) -> dict[str, Any]:
    return {
        "kind": "tool",
        "span_id": _hexadecimal(chance, 64),
        "operation": "execute_tool",
        "name": "look_up",
        "call_id": f"call_{_hexadecimal(chance, 48)}",
        "started_ns": now,
        "ended_ns": now + 50 * _MS,
        "status": "ok",
    }


def _hexadecimal(chance: random.Random, bits: int) -> str:
    return f"{chance.getrandbits(bits):0{bits // 4}x}"
