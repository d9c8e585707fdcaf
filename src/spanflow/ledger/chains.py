"""What joins the turns of an engagement: chains, what they repeat, which question was answered.

It writes what the facts of touched turns say of other turns, into rows and facts that are there.
What a single turn's rows add up to is :mod:`spanflow.ledger.merge`'s.
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any, cast

import orjson

from spanflow.ledger.statement import numbers, statement
from spanflow.ledger.waits import Asked, Asking, Settled, settle_waits

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import duckdb

__all__ = ["answer", "join_all_turns", "join_turns"]


def join_turns(connection: duckdb.DuckDBPyConnection, low: int, high: int) -> None:
    """Bring what turns say of each other up to date, where `touched_turns` changed it.

    `touched_engagements` and `chains_before` tell where they were before, and the former is made
    complete.

    Args:
        connection: The open store, with the facts of these turns written anew.
        low: When the first of their rows began.
        high: When the last of their rows began.
    """
    connection.execute(statement("reached"))
    connection.execute(statement("chains", low=low, high=high))
    (joined, forks, asked, answered) = numbers(connection, statement("needed"))
    if joined:
        first, last = numbers(connection, "SELECT min(first_ns), max(last_ns) FROM joined_turns")
        connection.execute(statement("repeats", low=first, high=last))
        connection.execute(statement("rejoined"))
    else:
        connection.execute("CREATE OR REPLACE TEMP TABLE rejoined (row_id BIGINT)")
    if forks:
        first, last = numbers(connection, statement("origin"))
        connection.execute(statement("origins", low=first, high=last))
    if asked:
        connection.execute(statement("asked", low=low, high=high))
    if answered:
        answer(connection)


def join_all_turns(connection: duckdb.DuckDBPyConnection) -> None:
    """Bring what turns say of each other up to date in a whole ledger, and sum up anew."""
    (turns, low, high) = numbers(
        connection, "SELECT count(*), min(first_ns), max(last_ns) FROM turn_facts"
    )
    if turns:
        connection.execute(statement("everything"))
        connection.execute(statement("alone"))
        join_turns(connection, low, high)
        connection.execute(statement("engagements"))


def answer(connection: duckdb.DuckDBPyConnection) -> None:
    """Find out what became of the questions and answers of `touched_engagements`."""
    questions = connection.execute(statement("questions")).fetchall()
    rows: list[tuple[int, Settled]] = []
    turns: list[tuple[str, str]] = []
    for asking, row_ids in _engagements(connection.execute(statement("asking")), questions):
        settled, resolved = settle_waits(asking)
        rows += [(row_ids[place], found) for place, found in settled.items()]
        turns += resolved.items()
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE settled AS SELECT unnest($1::BIGINT[]) AS row_id, "
        "unnest($2::BOOLEAN[]) AS is_first, unnest($3::VARCHAR[]) AS answered_turn_id, "
        "unnest($4::BIGINT[]) AS answered_ns, unnest($5::VARCHAR[]) AS resolution",
        [
            [row_id for row_id, _ in rows],
            [found.is_first for _, found in rows],
            [found.answered_turn_id for _, found in rows],
            [found.answered_ns for _, found in rows],
            [found.resolution for _, found in rows],
        ],
    )
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE resolved AS "
        "SELECT unnest($1::VARCHAR[]) AS turn_id, unnest($2::VARCHAR[]) AS resolved",
        [[turn_id for turn_id, _ in turns], [told for _, told in turns]],
    )
    connection.execute(statement("answered"))


def _engagements(
    turns: duckdb.DuckDBPyConnection, questions: Sequence[tuple[Any, ...]]
) -> Iterator[tuple[list[Asking], dict[tuple[str, int], int]]]:
    """Yield the turns of each engagement, and the rows of their questions."""
    asked: dict[str, list[tuple[int, Asked]]] = {}
    for turn_id, row_id, *told in questions:
        asked.setdefault(turn_id, []).append((row_id, Asked(*told)))
    for _, rows in groupby(turns.fetchall(), key=lambda row: row[0]):
        asking: list[Asking] = []
        row_ids: dict[tuple[str, int], int] = {}
        for (
            _, turn_id, chain_id, kind, outcome, started_ns, steps, answers, resolution, ended_ns,
            conversation_id, is_apart
        ) in rows:  # fmt: skip
            mine = asked.get(turn_id, [])
            row_ids |= {(turn_id, nth): row_id for nth, (row_id, _) in enumerate(mine)}
            asking.append(
                Asking(
                    turn_id,
                    chain_id,
                    kind,
                    outcome,
                    started_ns,
                    steps,
                    _names(answers),
                    resolution,
                    tuple(question for _, question in mine),
                    ended_ns,
                    conversation_id,
                    is_apart,
                )
            )
        yield asking, row_ids


def _names(text: str | None) -> tuple[str, ...] | None:
    """Read a row's list of names; whatever else stands there is none."""
    found: Any = orjson.loads(text) if text else None
    return tuple(map(str, cast("list[Any]", found))) if isinstance(found, list) else None
