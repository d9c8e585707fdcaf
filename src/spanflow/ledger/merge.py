"""From journal lines to rows: what a span's records say together, what a turn's rows add up to.

The work is done by DuckDB, in the SQL files of ``statements``, over the turns that new records
touch and no others. Nothing depends on the order of arrival. Which files are read, and what becomes
of them, is decided elsewhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from spanflow.ledger.chains import answer, join_turns
from spanflow.ledger.statement import numbers, statement
from spanflow.ledger.verdicts import write_verdicts

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import duckdb

__all__ = ["drop_erased", "load", "merge", "settle"]


def load(connection: duckdb.DuckDBPyConnection, files: Sequence[Path]) -> tuple[int, int]:
    """Read segments into the temporary tables `incoming` and `incoming_graphs`.

    Args:
        connection: The open store.
        files: The segments.

    Returns:
        How many records there were, and how many lines were refused.
    """
    quoted = ", ".join("'" + str(file).replace("'", "''") + "'" for file in files)
    connection.execute(statement("load", files=f"[{quoted}]"))
    lines, spans, graphs = numbers(
        connection,
        "SELECT count(*), count(*) FILTER (span_id <> '' AND trace_id <> '' AND kind <> 'graph'), "
        "(SELECT count(*) FROM incoming_graphs) FROM incoming",
    )
    if spans < lines:
        connection.execute(
            "DELETE FROM incoming WHERE NOT coalesce("
            "span_id <> '' AND trace_id <> '' AND kind <> 'graph', false)"
        )
    drop_erased(connection)
    return spans + graphs, lines - spans - graphs


def drop_erased(connection: duckdb.DuckDBPyConnection) -> None:
    """Take out of `incoming` what belongs to engagements that were erased."""
    if connection.execute("SELECT 1 FROM tombstones LIMIT 1").fetchone():
        connection.execute(statement("erased"))


def merge(connection: duckdb.DuckDBPyConnection) -> tuple[int, bool]:
    """Merge what :func:`load` read into the tables; call it inside a transaction.

    Returns:
        How many turns were touched, and whether any row changed.
    """
    connection.execute(statement("graphs"))
    low, high = numbers(connection, statement("near"))
    connection.execute(statement("touched", low=low, high=high))
    (graphs, turns) = numbers(
        connection,
        "SELECT (SELECT count(*) FROM new_graphs), (SELECT count(*) FROM touched_turns)",
    )
    connection.execute(statement("existing"))
    # Rows are pruned by time: a turn's facts know when its first and its last began.
    low, high = numbers(
        connection,
        "SELECT min(first_ns), max(last_ns) "
        "FROM turn_facts SEMI JOIN touched_turns USING (turn_id)",
    )
    connection.execute(statement("merged", low=low, high=high))
    write_verdicts(connection, statement("doubtful"))
    connection.execute(statement("computed"))
    connection.execute(statement("changed"))
    (changed,) = numbers(
        connection,
        "SELECT (SELECT count(*) FROM merged) - (SELECT count(*) FROM unchanged) "
        "+ (SELECT count(*) FROM recomputed)",
    )
    if changed:
        low, high = numbers(connection, statement("bounds"))
        connection.execute(statement("written"))
        connection.execute(statement("facts", low=low, high=high))
        join_turns(connection, low, high)
        connection.execute(statement("engagements"))
    return turns, changed + graphs > 0


def settle(connection: duckdb.DuckDBPyConnection, process_ids: Sequence[str]) -> None:
    """Sum up anew the engagements with turns left open by processes that were just noted as gone.

    Args:
        connection: The open store.
        process_ids: Those processes.
    """
    connection.execute(statement("settled"), [list(process_ids)])
    connection.execute(statement("alone"))
    connection.execute(statement("reached"))
    # Whether a turn died or goes on decides what the one after it means.
    answer(connection)
    connection.execute(statement("engagements"))
