"""The ``duckdb`` exporter: a standard span exporter over the same journal as capture's.

``OTEL_TRACES_EXPORTER=otlp,duckdb`` finds it by name, and so does a configuration file. Where
capture feeds this journal it leaves capture's own spans and steps out; what is told twice all the
same is one row. It never raises and never blocks on a lock; switched off it loads nothing.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from spanflow import switches
from spanflow.guard import report

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opentelemetry.sdk.trace import ReadableSpan

__all__ = ["DuckDBSpanExporter", "default_ledger"]

DEFAULT_LEDGER = "spanflow.duckdb"
_made: list[Path] = []
"""The ledgers of the exporters made in this process."""


def default_ledger() -> Path | None:
    """Return the ledger that OpenTelemetry's configuration asks for where nothing else names one.

    With a configuration file, which nobody reads twice, that is the ledger of the exporter that was
    made by it.
    """
    if os.environ.get(switches.CONFIG_FILE):
        return _made[0] if _made else None
    names = os.environ.get("OTEL_TRACES_EXPORTER", "").split(",")
    return Path(DEFAULT_LEDGER) if "duckdb" in (name.strip() for name in names) else None


class DuckDBSpanExporter(SpanExporter):
    """Exports spans into a DuckDB ledger, through its journal.

    Args:
        ledger: The ledger's path; without it ``SPANFLOW_LEDGER``, else ``spanflow.duckdb`` in the
            current folder.
    """

    def __init__(self, ledger: str | Path | None = None) -> None:
        self._closed = False
        self._enabled = not switches.off_by_variable()
        if not self._enabled:
            return
        from spanflow.ledger.journal import journal_for  # noqa: PLC0415 - only where a ledger is used
        from spanflow.settings import load  # noqa: PLC0415 - heavy, and only needed here

        settings = load()
        self._limit = settings.payload_bytes
        self._path = Path(ledger) if ledger is not None else settings.ledger or Path(DEFAULT_LEDGER)
        self._journal = journal_for(self._path)
        _made.append(self._path)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Append the record of each span of an engagement and of each model call, of no other."""
        if self._closed:
            return SpanExportResult.FAILURE
        if not self._enabled:
            return SpanExportResult.SUCCESS
        from spanflow import semconv  # noqa: PLC0415 - nothing where switched off
        from spanflow.capture.dialects import read_span  # noqa: PLC0415
        from spanflow.capture.records import record_of  # noqa: PLC0415
        from spanflow.capture.runtime import SCOPE_NAME  # noqa: PLC0415

        complete, fed = True, self._fed_by_capture()
        for span in spans:
            try:
                scope = span.instrumentation_scope.name if span.instrumentation_scope else ""
                attributes = span.attributes or {}
                if fed and (scope == SCOPE_NAME or semconv.STEP_NAME in attributes):
                    continue
                reading = read_span(span.name, span.kind.name, scope, attributes, span.start_time)
                record = record_of(span, source="exporter", reading=reading, limit=self._limit)
                if record is not None:
                    complete = self._journal.append(record) and complete
            except Exception as error:  # noqa: BLE001 - one odd span must not lose the batch
                report("exporter.export", error)
                complete = False
        return SpanExportResult.SUCCESS if complete else SpanExportResult.FAILURE

    def _fed_by_capture(self) -> bool:
        from spanflow import setup  # noqa: PLC0415 - asked late: capture may start after the exporter

        return setup.feeds(self._path)

    def shutdown(self) -> None:
        """Seal what was written, so that it can be ingested."""
        self._closed = True
        self._seal("exporter.shutdown")

    def force_flush(self, timeout_millis: int = 30_000) -> bool:  # noqa: ARG002 - the interface's
        """Seal what was written, so that it can be ingested."""
        return self._seal("exporter.force_flush")

    def _seal(self, site: str) -> bool:
        try:
            if self._enabled:
                self._journal.seal()
        except Exception as error:  # noqa: BLE001 - exporters must not raise
            report(site, error)
            return False
        return True
