"""The SQL files of ``statements``, with the lists that are made from the fields of a record.

It reads files and asks for numbers; what a statement means is said in its file.
"""

from __future__ import annotations

from functools import cache
from importlib import resources
from string import Template
from typing import TYPE_CHECKING

from spanflow.ledger.fields import COMPUTED, FIELDS, READ_COLUMNS, REJOINED

if TYPE_CHECKING:
    import duckdb

__all__ = ["numbers", "statement"]


class _Statement(Template):
    """SQL with ``@name`` where lists made from the fields of a record go."""

    delimiter = "@"


def statement(name: str, **parts: object) -> str:
    """Return the SQL of one file of ``statements``, with its parts filled in."""
    return _statement(name).substitute(_parts(), **parts)


def numbers(connection: duckdb.DuckDBPyConnection, query: str) -> tuple[int, ...]:
    """Return the one row of numbers that a query answers; null is 0."""
    rows = connection.execute(query).fetchall()
    return tuple(int(value or 0) for value in rows[0])


@cache
def _statement(name: str) -> _Statement:
    folder = resources.files("spanflow.ledger").joinpath("statements")
    return _Statement(folder.joinpath(f"{name}.sql").read_text("utf-8"))


@cache
def _parts() -> dict[str, str]:
    # A number has 63 bits; these four are never null.
    sparse = [name for name in FIELDS if name not in ("trace_id", "span_id", "phase", "kind")]
    filled = (f"(({name} IS NOT NULL)::BIGINT << {bit})" for bit, name in enumerate(sparse))
    own = ("trace_id", "span_id", "status")
    distinct = "{0} IS DISTINCT FROM {1}".format
    return {
        "read_columns": ", ".join(f"'{name}': '{kind}'" for name, kind in READ_COLUMNS.items()),
        "fields": ", ".join(FIELDS),
        # Which fields a record fills, as the bits of one number.
        "filled": " | ".join(filled),
        "different": " OR ".join(distinct(f"r.{name}", f"c.{name}") for name in COMPUTED),
        "recomputed": ", ".join(f"{name} = c.{name}" for name in COMPUTED),
        "computed": ", ".join(COMPUTED[3:]),
        "recomputed_columns": ", ".join(f"c.{name}" for name in COMPUTED),
        "best": ", ".join(f"arg_max({name}, rank) AS {name}" for name in FIELDS if name not in own),
        "rejoined": " OR ".join(distinct(name, default) for name, default in REJOINED.items()),
        "rejoined_here": " OR ".join(
            distinct(f"r.{name}", default) for name, default in REJOINED.items()
        ),
        "rejoined_columns": ", ".join(f"r.{name}" for name in REJOINED),
        "rejoined_new": ", ".join(f"n.{name}" for name in REJOINED),
        "rejoined_differ": " OR ".join(distinct(f"r.{name}", f"n.{name}") for name in REJOINED),
        "rejoined_set": ", ".join(f"{name} = n.{name}" for name in REJOINED),
    }
