"""The questions of many engagements, at three sizes, beside hand-written SQL on bare tables.

A bare table has no more columns than its query needs, and the query answers no more than was asked:
no statuses, no visits that went on in another turn, no filters, nothing unknown.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import duckdb

from bench import journals
from spanflow.ledger.gather import ingest
from spanflow.ledger.places import Places
from spanflow.ledger.publish import publish
from spanflow.query.journeys import connect

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

__all__ = ["SPANS_PER_ENGAGEMENT", "Question", "measure"]

SPANS_PER_ENGAGEMENT = 8
_AT_ONCE = 100_000
_ASKED = 5
_STEPS = "['intake', 'search', 'compare', 'apply', 'submitted']"

_BARE = """
CREATE TABLE s AS
    SELECT engagement_id, name, started_ns, ended_ns, used_total_tokens AS tokens FROM ours.records
    WHERE kind = 'step';
CREATE TABLE c AS SELECT model, total_tokens, engagement_id FROM ours.records WHERE kind = 'llm';
"""
_BARE_FUNNEL = """
SELECT name, count(DISTINCT engagement_id), count(*), sum(tokens),
    quantile_cont(ended_ns - started_ns, [0.5, 0.95])
FROM s GROUP BY name
"""
_BARE_ORDERED = """
SELECT count(intake), count(*) FILTER (search > intake), count(*) FILTER (compare > search),
    count(*) FILTER (apply > compare), count(*) FILTER (submitted > apply)
FROM (
    SELECT engagement_id,
        min(started_ns) FILTER (name = 'intake') AS intake,
        min(started_ns) FILTER (name = 'search') AS search,
        min(started_ns) FILTER (name = 'compare') AS compare,
        min(started_ns) FILTER (name = 'apply') AS apply,
        min(started_ns) FILTER (name = 'submitted') AS submitted
    FROM s GROUP BY engagement_id
)
"""
_BARE_PATHS = """
SELECT path, count(*) FROM (
    SELECT engagement_id, list(name ORDER BY started_ns) AS path FROM s GROUP BY engagement_id
) GROUP BY path ORDER BY 2 DESC
"""
_BARE_USAGE = """
SELECT model, count(*), sum(total_tokens), count(DISTINCT engagement_id) FROM c GROUP BY model
"""


@dataclass
class Question:
    """What one question takes, in milliseconds, by the number of engagements."""

    what: str
    ours: str
    bare: str | None = None
    most_ms: float | None = None
    ours_ms: dict[int, float] | None = None
    bare_ms: dict[int, float] | None = None


def measure(sizes: Sequence[int], folder: Path, say: Callable[[str], None]) -> tuple[Question, ...]:
    """Fill a ledger to each size in turn and ask it.

    Args:
        sizes: Numbers of engagements, ascending.
        folder: Where to work; it needs some 2 kB an engagement.
        say: Told of what goes on.
    """
    questions = (
        Question("funnel", f"FROM funnel({_STEPS})", _BARE_FUNNEL, 1_000),
        Question("… in order", f"FROM funnel({_STEPS}, ordered := true)", _BARE_ORDERED),
        Question("… of one tier", f"FROM funnel({_STEPS}, metadata := {{'tier': 'pro'}})"),
        Question("usage_by model", "FROM usage_by('model')", _BARE_USAGE, 500),
        Question("paths", "FROM paths()", _BARE_PATHS, 3_000),
        Question("drop_offs", "FROM drop_offs()"),
        Question("step_stats", "FROM step_stats()"),
        Question("one journey", "", None, 50),
    )
    ledger = folder / "analytics.duckdb"
    places = Places.of(ledger)
    filled = 0
    for size in sizes:
        for first in range(filled, size, _AT_ONCE):
            count = min(_AT_ONCE, size - first)
            journals.write(places.journal, count, first=first, lean=True)
            ingest(ledger)
        filled = size
        publish(ledger, force=True)
        say(f"{size:,} engagements …")
        _ask(questions, size, ledger, folder / f"bare-{size}.duckdb")
    return questions


def _ask(questions: Sequence[Question], size: int, ledger: Path, bare_file: Path) -> None:
    with duckdb.connect(str(bare_file), config={"storage_compatibility_version": "v1.4.0"}) as bare:
        bare.execute(f"ATTACH '{ledger}' AS ours (READ_ONLY)")
        bare.execute(_BARE)
        bare.execute("DETACH ours")
        with connect(ledger) as opened:
            some = opened.sql(
                "SELECT engagement_id FROM engagement_facts USING SAMPLE reservoir(1 ROWS) "
                "REPEATABLE (7)"
            ).rows[0][0]
            for question in questions:
                ask = (
                    partial(opened.sql, question.ours)
                    if question.ours
                    else partial(opened.engagement, some)
                )
                asks: list[Callable[[], object]] = [ask]
                if question.bare is not None:
                    asks.append(lambda sql=question.bare: bare.execute(sql).fetchall())
                taken = _interleaved(asks)
                question.ours_ms = {**(question.ours_ms or {}), size: taken[0]}
                if question.bare is not None:
                    question.bare_ms = {**(question.bare_ms or {}), size: taken[1]}


def _interleaved(asks: Sequence[Callable[[], object]]) -> list[float]:
    """Return the median milliseconds of each, asked in turn."""
    taken: list[list[float]] = [[] for _ in asks]
    for _ in range(_ASKED):
        for ask, times in zip(asks, taken, strict=True):
            before = time.perf_counter()
            ask()
            times.append((time.perf_counter() - before) * 1_000)
    return [statistics.median(times) for times in taken]
