"""What happened, as each of those who tell of it writes it down, and the rows that it becomes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import otlp
from opentelemetry.sdk.trace.export import SpanExportResult

import spanflow
from spanflow.capture.exporter import DuckDBSpanExporter
from spanflow.capture.otlp_files import read_file
from spanflow.ledger.ingest import ingest
from spanflow.ledger.joining import join
from spanflow.ledger.journal import Journal
from spanflow.ledger.places import Places
from spanflow.ledger.publish import refresh

if TYPE_CHECKING:
    from collections.abc import Sequence

    from conftest import Flow
    from opentelemetry.sdk.trace import ReadableSpan

# What capture and an exporter both know, by view; all but the few columns that say who wrote a row.
# No span describes a topology, so `graphs` is known from capture alone.
COLUMNS = {
    "engagements": "*",
    "turns": "* EXCLUDE (process_id)",
    "steps": "* EXCLUDE (process_id)",
    # Ours is when the first piece arrived here; the span's own is taken some microseconds later.
    "llm_calls": "* EXCLUDE (source, time_to_first_token_ms), time_to_first_token_ms IS NULL",
    "tool_calls": "* EXCLUDE (source)",
    # A span holds the end of a stack and not the number of the attempt.
    "events": "* EXCLUDE (payload), "
    "if(kind = 'error', json_extract(payload, '$.message'), payload) AS payload",
    "waits": "*",
    "transitions": "*",
    "records": "kind, span_id, execution_id, triggered_by, attempt, answers, resolution,"
    " origin_turn_id, origin_superstep, agent_name",
    "spans": "* EXCLUDE (process_id, source, service_name, attributes, events, links)",
}
AS_OF = "TIMESTAMP '2100-01-01'"


def lines_of(ledger: Path) -> bytes:
    """What was journalled beside `ledger` and not ingested yet."""
    folder = Places.of(ledger).journal
    return b"".join(path.read_bytes() for path in sorted(folder.glob("*.ndjson")))


def exported(ledger: Path, batches: Sequence[Sequence[ReadableSpan]]) -> bytes:
    """What an exporter journals of `batches`."""
    exporter = DuckDBSpanExporter(ledger)
    for batch in batches:
        assert exporter.export(batch) is SpanExportResult.SUCCESS
    exporter.shutdown()
    return lines_of(ledger)


def filed(ledger: Path, batches: Sequence[Sequence[ReadableSpan]]) -> bytes:
    """What is journalled of the file that a Collector would write of `batches`."""
    file = ledger.with_suffix(".json")
    file.write_bytes(otlp.lines(batches))
    journal = Journal(ledger)
    for line in read_file(file, limit=16_384):
        assert not line.told.refused
        for record in line.told.records:
            assert journal.append(record)
    journal.close()
    return lines_of(ledger)


def captured(flow: Flow) -> bytes:
    """What capture journalled, after which it is switched off."""
    spanflow.uninstrument()
    return lines_of(flow.ledger)


def rows(
    folder: Path, feeds: Sequence[bytes | Path], *, at_once: bool = False
) -> dict[str, list[tuple[Any, ...]]]:
    """Ingest `feeds` one after another into a fresh ledger; return what all of them know."""
    folder.mkdir(exist_ok=True)
    ledger = folder / f"{len(list(folder.iterdir()))}.duckdb"
    places = Places.of(ledger)
    places.make()
    for number, lines in enumerate(feeds):
        if isinstance(lines, Path):
            join(ledger, lines)
            continue
        (places.journal / f"{number:020d}-host-{number}-1.ndjson").write_bytes(lines)
        if not at_once:
            assert ingest(ledger) is not None
    refresh(ledger)
    with duckdb.connect(str(ledger), read_only=True) as connection:
        return {
            view: connection.execute(
                f"SELECT {columns} FROM {_source(view)} ORDER BY ALL"
            ).fetchall()
            for view, columns in COLUMNS.items()
        }


def _source(view: str) -> str:
    # Read at one moment: whether a pause counts as abandoned depends on the clock.
    return f"engagements(as_of := {AS_OF})" if view == "engagements" else view
