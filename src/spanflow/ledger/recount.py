"""The facts of whole engagements, read out of a ledger's file and counted anew.

What a reader is told besides the records themselves (which calls count, every sum, the outcome and
end of a turn) is computed again from the records by the statements that computed it first. Nothing
is written to the file; how facts become a digest is :mod:`spanflow.ledger.digest`'s.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from spanflow.ledger.chains import join_turns
from spanflow.ledger.digest import BEGUN, ENDED, GONE, GRAPH, Entry, Form, key_of
from spanflow.ledger.fields import COMPUTED, FIELDS, REJOINED
from spanflow.ledger.statement import statement
from spanflow.ledger.store import migrations
from spanflow.ledger.verdicts import write_verdicts

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import duckdb

__all__ = ["Facts", "count_anew", "prepare", "recounted"]

AT_ONCE = 1_000
"""So many engagements are held in memory together."""

_ROWS_AT_ONCE = 10_000


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything the ledger says of one engagement.

    Attributes:
        engagement_id: Which one.
        entries: Its spans and graphs, hashed; none where the ledger has nothing of it.
        sound: Whether what is computed from its rows is what it should be.
    """

    engagement_id: str
    entries: tuple[Entry, ...]
    sound: bool


def prepare(connection: duckdb.DuckDBPyConnection) -> None:
    """Make room for counting, in memory beside an open ledger.

    Args:
        connection: To which a ledger of this version is attached as `ledger`; its default database
            is another one afterwards.
    """
    connection.execute("ATTACH ':memory:' AS recount")
    connection.execute("USE recount")
    for _, script in migrations():
        connection.execute(script)
    connection.execute("INSERT INTO prices BY NAME FROM ledger.prices")
    connection.execute("ALTER TABLE records ADD COLUMN origin BIGINT")


def recounted(
    connection: duckdb.DuckDBPyConnection, engagement_ids: Sequence[str], form: Form
) -> Iterator[Facts]:
    """Yield the facts of engagements, in the order asked for.

    Args:
        connection: One that is prepared.
        engagement_ids: Of whom.
        form: How rows are hashed.
    """
    for low in range(0, len(engagement_ids), AT_ONCE):
        yield from _recounted(connection, engagement_ids[low : low + AT_ONCE], form)


def count_anew(connection: duckdb.DuckDBPyConnection) -> None:
    """Write the temporary table `computed` for `touched_turns` and `touched_traces`."""
    connection.execute(statement("whole"))
    write_verdicts(connection, statement("doubtful"))
    connection.execute(statement("computed"))


def _recounted(
    connection: duckdb.DuckDBPyConnection, ids: Sequence[str], form: Form
) -> Iterator[Facts]:
    connection.execute("CREATE OR REPLACE TEMP TABLE chosen (number BIGINT, engagement_id VARCHAR)")
    connection.execute(
        "INSERT INTO chosen SELECT unnest($1), unnest($2)", [list(range(len(ids))), list(ids)]
    )
    connection.execute(statement("found"))
    _copy_rows(connection)
    unsound = _unsound(connection, len(ids))
    entries: list[list[Entry]] = [[] for _ in ids]
    for number, entry in itertools.chain(_spans(connection, form), _graphs(connection, form)):
        entries[number].append(entry)
    for number, engagement_id in enumerate(ids):
        yield Facts(engagement_id, tuple(sorted(entries[number])), number not in unsound)


def _copy_rows(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute("TRUNCATE records")
    row = connection.execute("SELECT min(origin), max(origin) FROM needed").fetchone()
    if row is None or row[0] is None:
        return
    names = ", ".join((*FIELDS, *COMPUTED, *REJOINED, "at_ns", "errors"))
    # The bounds let DuckDB skip the rest of a large ledger.
    connection.execute(
        f"INSERT INTO records BY NAME SELECT rowid AS origin, {names} FROM ledger.records "  # noqa: S608 - our own columns
        f"WHERE rowid BETWEEN {int(row[0])} AND {int(row[1])} "
        "AND rowid IN (SELECT origin FROM needed)"
    )


def _unsound(connection: duckdb.DuckDBPyConnection, number: int) -> set[int]:
    """Return which of the chosen engagements do not add up."""
    import duckdb  # noqa: PLC0415 - there is a connection, so it is loaded

    try:
        count_anew(connection)
        connection.execute("TRUNCATE turn_facts")
        row = connection.execute(
            "SELECT coalesce(min(at_ns), 0), coalesce(max(at_ns), 0) FROM records"
        ).fetchone()
        low, high = row or (0, 0)
        connection.execute(statement("facts", low=low, high=high))
        for table in ("processes", "strangers"):
            connection.execute(f"TRUNCATE {table}")
            connection.execute(
                f"INSERT INTO {table} BY NAME FROM ledger.{table} "  # noqa: S608 - tables of ours
                "WHERE process_id IN (SELECT process_id FROM turn_facts)"
            )
        connection.execute("TRUNCATE wait_facts")
        connection.execute(statement("alone"))
        join_turns(connection, low, high)
        rows = connection.execute(statement("unsound")).fetchall()
        return {int(row[0]) for row in rows}
    except duckdb.Error:
        if number == 1:
            # Values that ingestion would never have written.
            return {0}
    return _one_by_one(connection)


def _one_by_one(connection: duckdb.DuckDBPyConnection) -> set[int]:
    """Find the engagement whose rows cannot even be counted, among several."""
    chosen = connection.execute("SELECT number, engagement_id FROM chosen").fetchall()
    unsound: set[int] = set()
    for number, engagement_id in chosen:
        connection.execute("TRUNCATE chosen")
        connection.execute("INSERT INTO chosen VALUES (0, ?)", [engagement_id])
        connection.execute(statement("found"))
        _copy_rows(connection)
        if _unsound(connection, 1):
            unsound.add(number)
    connection.execute("TRUNCATE chosen")
    connection.execute(
        "INSERT INTO chosen SELECT unnest($1), unnest($2)",
        [[row[0] for row in chosen], [row[1] for row in chosen]],
    )
    connection.execute(statement("found"))
    _copy_rows(connection)
    return unsound


def _spans(connection: duckdb.DuckDBPyConnection, form: Form) -> Iterator[tuple[int, Entry]]:
    counts = connection.execute(
        f"SELECT {', '.join(f'count({name})' for name in FIELDS)} FROM records"  # noqa: S608 - our own columns
    ).fetchone()
    # Most columns are null in most ledgers, and a null says nothing.
    names = [name for name, count in zip(FIELDS, counts or (), strict=True) if count]
    if not names:
        return
    own = ", ".join(f"r.{name}" for name in names)
    connection.execute(
        "SELECT p.number, r.trace_id, r.span_id, r.phase, g.process_id IS NOT NULL, "  # noqa: S608 - our own columns
        f"{own} FROM placed p JOIN records r ON r.origin = p.origin "
        "LEFT JOIN (SELECT DISTINCT process_id FROM ledger.processes) g "
        "ON g.process_id = r.process_id"
    )
    while rows := connection.fetchmany(_ROWS_AT_ONCE):
        for number, trace_id, span_id, phase, is_gone, *values in rows:
            state = ENDED if phase == "end" else GONE if is_gone else BEGUN
            yield (
                number,
                Entry(
                    key_of(trace_id, span_id),
                    state,
                    form.leaf(names, values),
                    form.begun(names, values),
                ),
            )


def _graphs(connection: duckdb.DuckDBPyConnection, form: Form) -> Iterator[tuple[int, Entry]]:
    names = ("graph_version", "name", "nodes", "edges")
    rows = connection.execute(
        "SELECT u.number, g.graph_version, g.name, g.nodes, g.edges FROM ledger.graph_versions g "
        "JOIN (SELECT DISTINCT p.number, r.graph_version FROM placed p "
        "JOIN records r ON r.origin = p.origin) u USING (graph_version)"
    ).fetchall()
    for number, *values in rows:
        key = key_of("graph", values[0])
        yield number, Entry(key, GRAPH, form.leaf(names, values))
