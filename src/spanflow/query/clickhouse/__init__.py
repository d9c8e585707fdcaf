"""The same questions, asked of the spans that the Collector's exporter wrote into ClickHouse.

A dialect is a folder: the macros of a ledger are DuckDB's, the SQL files here ClickHouse's. The
spans are only read, and nothing is made in the database.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from spanflow.query.clickhouse.engine import ClickHouseEngine
from spanflow.query.clickhouse.servers import connect_to

if TYPE_CHECKING:
    from spanflow.query.engine import Engine

__all__ = ["open_engine"]


def open_engine(url: str) -> Engine:
    """Return an engine that asks ClickHouse.

    Args:
        url: ``clickhouse://user:password@host:8123/database?table=otel_traces``, with
            ``clickhouses://`` or ``?secure=1`` for TLS; or ``chdb:///folder?table=…`` for the
            embedded one. The database is ``default`` and the table ``otel_traces`` unless told.

    Raises:
        LedgerError: The address cannot be read, the package that speaks to it is missing, or the
            server does not answer.
    """
    return ClickHouseEngine(connect_to(url))
