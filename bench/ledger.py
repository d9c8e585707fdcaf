"""A ledger of millions of spans: how fast it is filled and asked, beside raw DuckDB doing the same.

Raw DuckDB reads the same journal into one table of the same columns; it merges nothing, judges no
call and sums up no turn.
"""

from __future__ import annotations

import shutil
import statistics
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import duckdb

from bench import journals
from spanflow.ledger.fields import READ_COLUMNS
from spanflow.ledger.gather import ingest
from spanflow.ledger.pace import swift
from spanflow.ledger.places import Places
from spanflow.ledger.publish import publish
from spanflow.query.journeys import connect

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["Measured", "measure"]

_AT_ONCE = 100_000
_ASKED = 15


@dataclass
class Measured:
    """What one ledger took and takes, and raw DuckDB beside it."""

    spans: int
    ingest_s: float = 0.0
    raw_ingest_s: float = 0.0
    bytes_per_span: float = 0.0
    raw_bytes_per_record: float = 0.0
    publish_s: float = 0.0
    tree_ms: float = 0.0
    raw_tree_ms: float = 0.0
    newest_ms: float = 0.0
    raw_newest_ms: float = 0.0
    by_model_ms: float = 0.0
    raw_by_model_ms: float = 0.0


def measure(spans: int, folder: Path, say: Callable[[str], None]) -> Measured:
    """Fill a ledger of `spans` spans and ask it.

    Args:
        spans: How many; rounded to whole engagements.
        folder: Where to work; it needs about 250 bytes a span, and a gigabyte for the journal.
        say: Told of what goes on.
    """
    engagements = spans // journals.SPANS_PER_ENGAGEMENT
    it = Measured(engagements * journals.SPANS_PER_ENGAGEMENT)
    ledger = folder / "large.duckdb"
    places = Places.of(ledger)
    raw = duckdb.connect(str(folder / "raw.duckdb"), config=_config())
    for first in range(0, engagements, _AT_ONCE):
        count = min(_AT_ONCE, engagements - first)
        journals.write(places.journal, count, first=first)
        it.raw_ingest_s += _timed(lambda: _read_raw(raw, places.journal))
        it.ingest_s += _timed(lambda: ingest(ledger))
        say(f"{(first + count) * journals.SPANS_PER_ENGAGEMENT:,} of {it.spans:,} spans …")
    it.publish_s = _timed(lambda: publish(ledger, force=True))
    it.bytes_per_span = _used_bytes(ledger) / it.spans
    raw.close()
    it.raw_bytes_per_record = _used_bytes(folder / "raw.duckdb") / _count(folder / "raw.duckdb")
    _ask(it, ledger, folder / "raw.duckdb")
    shutil.rmtree(places.directory)
    return it


def _ask(it: Measured, ledger: Path, raw_file: Path) -> None:
    with connect(ledger) as opened, duckdb.connect(str(raw_file), read_only=True) as raw:
        some = [
            row[0]
            for row in opened.sql(
                "SELECT engagement_id FROM engagement_facts USING SAMPLE reservoir(15 ROWS) "
                "REPEATABLE (7)"
            ).rows
        ]
        it.tree_ms = statistics.median(_ms(partial(opened.engagement, one)) for one in some)
        it.raw_tree_ms = statistics.median(_ms(partial(_raw_tree, raw, one)) for one in some)
        it.newest_ms = _median_ms(lambda: opened.engagements(limit=50))
        it.raw_newest_ms = _median_ms(
            lambda: raw.execute(
                "FROM r WHERE kind = 'turn' AND phase = 'end' ORDER BY started_ns DESC LIMIT 50"
            ).fetchall()
        )
        it.by_model_ms = _median_ms(
            lambda: opened.sql(
                "SELECT step_name, model, sum(total_tokens) FROM llm_calls WHERE counted "
                "GROUP BY ALL"
            )
        )
        it.raw_by_model_ms = _median_ms(
            lambda: raw.execute(
                "SELECT step_id IS NULL, model, sum(total_tokens) FROM r WHERE kind = 'llm' "
                "GROUP BY ALL"
            ).fetchall()
        )


def _raw_tree(raw: duckdb.DuckDBPyConnection, engagement_id: str) -> list[Any]:
    return raw.execute("FROM r WHERE engagement_id = ?", [engagement_id]).fetchall()


def _read_raw(raw: duckdb.DuckDBPyConnection, journal: Path) -> None:
    columns = ", ".join(f"'{name}': '{kind}'" for name, kind in READ_COLUMNS.items())
    source = (
        f"read_json('{journal}/*.ndjson', format = 'newline_delimited', ignore_errors = true, "
        f"columns = {{{columns}}})"
    )
    raw.execute(f"CREATE TABLE IF NOT EXISTS r AS FROM {source} LIMIT 0")
    raw.execute(f"INSERT INTO r FROM {source}")


def _config() -> dict[str, Any]:
    pace = swift()
    return {
        "storage_compatibility_version": "v1.4.0",
        "threads": pace.threads,
        "memory_limit": f"{pace.memory_bytes}B",
    }


def _used_bytes(file: Path) -> int:
    with duckdb.connect(str(file), read_only=True) as opened:
        row = opened.execute("SELECT used_blocks * block_size FROM pragma_database_size()")
        [(used,)] = row.fetchall()
    return int(used)


def _count(file: Path) -> int:
    with duckdb.connect(str(file), read_only=True) as opened:
        [(rows,)] = opened.execute("SELECT count(*) FROM r").fetchall()
    return int(rows)


def _timed(work: Callable[[], object]) -> float:
    before = time.perf_counter()
    work()
    return time.perf_counter() - before


def _ms(work: Callable[[], object]) -> float:
    return _timed(work) * 1_000


def _median_ms(work: Callable[[], object]) -> float:
    return statistics.median(_ms(work) for _ in range(_ASKED))
