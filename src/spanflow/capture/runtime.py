"""What every capture needs at hand: the tracer, the journal, the meters, the settings, and ids.

It is made once by ``setup`` and read everywhere; it opens no file and starts no thread itself.
"""

from __future__ import annotations

import logging
import os
import random
import time
from typing import TYPE_CHECKING, Any

from opentelemetry import trace

from spanflow.capture.metering import meters
from spanflow.guard import report

if TYPE_CHECKING:
    from collections.abc import Mapping

    from spanflow.ledger.journal import Journal
    from spanflow.settings import Settings

__all__ = ["SCOPE_NAME", "Runtime", "new_engagement_id", "span_id_of", "span_ids"]

SCOPE_NAME = "spanflow"
"""The instrumentation scope of every span we make."""

logger = logging.getLogger("spanflow")


class Runtime:
    """The tracer, the journal (None without a ledger) and the settings of this process."""

    def __init__(self, settings: Settings, journal: Journal | None, version: str) -> None:
        self.settings = settings
        self.journal = journal
        self.version = version
        self.tracer = trace.get_tracer(SCOPE_NAME, version)
        self.payload_bytes = settings.payload_bytes
        self.known_graphs: set[str] = set()
        self.service_name: str | None = None
        self.meters = meters()

    def record(self, record: Mapping[str, Any]) -> None:
        """Measure what a record tells, and append it to the journal, where there is one."""
        if self.meters is not None:
            try:
                self.meters.saw(record)
            except Exception as error:  # noqa: BLE001 - somebody's metrics
                report("runtime.metering", error)
        if self.journal is not None:
            self.journal.append(record)


def span_id_of(span: trace.Span) -> str:
    """Return a span's id as lower-case hex; without an SDK, one of our own."""
    return f"{span.get_span_context().span_id or random.getrandbits(64) or 1:016x}"


def span_ids(span: trace.Span, trace_id: str | None = None) -> tuple[str, str]:
    """Return a span's trace and span id as lower-case hex; without an SDK, ids of our own.

    Args:
        span: Any span, recording or not.
        trace_id: The trace to stay in where the span has no valid context.
    """
    context = span.get_span_context()
    if context.is_valid:
        return f"{context.trace_id:032x}", f"{context.span_id:016x}"
    return trace_id or f"{random.getrandbits(128) or 1:032x}", f"{random.getrandbits(64) or 1:016x}"


def new_engagement_id() -> str:
    """Return a new time-ordered id (UUIDv7, RFC 9562)."""
    raw = bytearray((time.time_ns() // 1_000_000).to_bytes(6, "big") + os.urandom(10))
    raw[6] = (raw[6] & 0x0F) | 0x70
    raw[8] = (raw[8] & 0x3F) | 0x80
    text = raw.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
