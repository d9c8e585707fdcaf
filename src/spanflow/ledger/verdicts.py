"""Which calls count: asks the tally about those turns where it is not obvious.

A turn whose calls were all reported by one instrumentation, each directly under its step, needs no
judging: every call counts. The arithmetic itself is the tally's.
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any, cast

import orjson

from spanflow import guard

if TYPE_CHECKING:
    from collections.abc import Sequence

    import duckdb

    from spanflow.tally import Verdict

__all__ = ["write_verdicts"]

_Row = tuple[Any, ...]


def write_verdicts(connection: duckdb.DuckDBPyConnection, doubtful: str) -> None:
    """Judge the calls in `turn_rows` and write the temporary table `verdicts`.

    It holds a row for calls that were judged; all others count.

    Args:
        connection: The open store.
        doubtful: The query for the calls to judge.
    """
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE verdicts "
        "(grp VARCHAR, span_id VARCHAR, counted BOOLEAN, because VARCHAR)"
    )
    verdicts: list[tuple[str, str, bool, str | None]] = []
    calls: list[_Row] = connection.execute(doubtful).fetchall()
    for (group, is_tool), rows in groupby(calls, key=lambda row: (row[0], row[1])):
        # Tools may call tools, and both happened: only two reports of one call are one.
        parents = {} if is_tool else _parents(connection, group)
        verdicts += [
            (group, span_id, verdict.counted, verdict.because)
            for span_id, verdict in _judge(list(rows), parents).items()
        ]
    if verdicts:
        connection.execute(
            "INSERT INTO verdicts SELECT unnest($1), unnest($2), unnest($3), unnest($4)",
            [list(column) for column in zip(*verdicts, strict=True)],
        )


def _parents(connection: duckdb.DuckDBPyConnection, group: str) -> dict[str, str | None]:
    return dict(
        connection.execute(
            "SELECT span_id, parent_span_id FROM turn_rows WHERE grp = ? ORDER BY ALL", [group]
        ).fetchall()
    )


def _judge(rows: Sequence[_Row], parents: dict[str, str | None]) -> dict[str, Verdict]:
    # Most ingests need no judge.
    from spanflow.spending import TOKEN_FIELDS, Call, Usage  # noqa: PLC0415
    from spanflow.tally import judge  # noqa: PLC0415

    calls = [
        Call(
            span_id=row[2],
            parent_span_id=row[3],
            scope=row[4],
            step_id=row[5],
            model=row[6],
            response_id=row[7],
            started_ns=row[8],
            ended_ns=row[9],
            usage=Usage.of(
                cost_usd=row[10],
                flags=_flags(row[11]),
                **dict(zip(TOKEN_FIELDS, row[12:], strict=True)),
            ),
        )
        for row in rows
    ]
    try:
        return judge(calls, parents)
    except Exception as error:  # noqa: BLE001 - an unjudged turn counts every call
        guard.report("ledger.judge", error)
        return {}


def _flags(text: str | None) -> tuple[str, ...]:
    """Read a row's list of flags; whatever else stands there is none."""
    found: Any = orjson.loads(text) if text else ()
    return tuple(map(str, cast("list[Any]", found))) if isinstance(found, list) else ()
