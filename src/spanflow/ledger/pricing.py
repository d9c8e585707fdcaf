"""What models cost from when on, and what that makes of calls whose cost nobody reported.

The ledger's costs are always those of its table of prices as it is: whoever changes the table has
every call counted anew that this concerns, in the same transaction. The arithmetic is SQL's, in the
ledger itself. Where prices come from is not decided here.
"""

from __future__ import annotations

import time
from dataclasses import astuple, dataclass, fields, replace
from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import groupby
from typing import TYPE_CHECKING

from spanflow.errors import LedgerError
from spanflow.ledger.chains import join_turns
from spanflow.ledger.connections import transaction
from spanflow.ledger.election import elected
from spanflow.ledger.gather import ingest
from spanflow.ledger.pace import swift
from spanflow.ledger.places import Places
from spanflow.ledger.publish import publish
from spanflow.ledger.recount import count_anew
from spanflow.ledger.statement import statement

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    import duckdb
__all__ = ["BY_HAND", "Price", "Repriced", "import_prices", "reprice", "set_price"]

BY_HAND = "set"
"""The source of a price that somebody set: it goes before all imported ones."""

_Key = tuple[str, str | None]
_FIRST_DAY = date(1970, 1, 1)
_WAITS_S = 30.0
_TURNS_AT_ONCE = 50_000
_MOST_USD = Decimal(10) ** 9


@dataclass(frozen=True, slots=True)
class Price:
    """What a model costs, in US dollars per million tokens; None where nobody told.

    Attributes:
        model: The model, as answers name it.
        provider: Who serves it; None for whoever does.
        valid_from: The first day (UTC) of calls it is for.
        above_input_tokens: It is only for calls with more input than this.
        input_usd_per_million: For input that came out of no cache and went into none.
        output_usd_per_million: For output, and for reasoning that has no rate of its own.
        cache_read_usd_per_million: For input out of the provider's cache.
        cache_write_usd_per_million: For input that was put there.
        reasoning_usd_per_million: For reasoning.
        source: `set`, or where it was imported from.
    """

    model: str
    provider: str | None = None
    valid_from: date = _FIRST_DAY
    above_input_tokens: int = 0
    input_usd_per_million: Decimal | None = None
    output_usd_per_million: Decimal | None = None
    cache_read_usd_per_million: Decimal | None = None
    cache_write_usd_per_million: Decimal | None = None
    reasoning_usd_per_million: Decimal | None = None
    source: str = BY_HAND

    @property
    def rates(self) -> tuple[Decimal | None, ...]:
        """Its five rates."""
        return (
            self.input_usd_per_million,
            self.output_usd_per_million,
            self.cache_read_usd_per_million,
            self.cache_write_usd_per_million,
            self.reasoning_usd_per_million,
        )


@dataclass(frozen=True, slots=True)
class Repriced:
    """What new prices made of a ledger.

    Attributes:
        prices: How many were written.
        calls: How many calls cost something else now.
        unpriced_calls: How many calls that count still have no cost.
    """

    prices: int
    calls: int
    unpriced_calls: int


def set_price(ledger: Path, price: Price) -> Repriced:
    """Set what a model costs from a day on, and count its calls since then anew.

    Raises:
        LedgerError: A rate is none, or the ledger cannot be written.
    """
    return _tell(ledger, lambda _: [replace(price, source=BY_HAND)])


def import_prices(ledger: Path, prices: Sequence[Price], today: date | None = None) -> Repriced:
    """Take over many prices, and count anew what they concern.

    The first price of a model is for all calls there ever were: nobody knows an older one. One that
    is no longer what was imported before is for calls from today on. One that is still the same
    changes nothing.

    Args:
        ledger: The published file.
        prices: Those of one source; their days are not looked at.
        today: The first day of changed prices, without it the day it is (UTC).

    Raises:
        LedgerError: A rate is none, or the ledger cannot be written.
    """
    day = today or datetime.now(UTC).date()
    return _tell(ledger, lambda known: _news(known, prices, day))


def reprice(ledger: Path) -> Repriced:
    """Count anew every call whose cost is not what the prices make it.

    Raises:
        LedgerError: The ledger cannot be written.
    """
    return _tell(ledger, lambda _: [])


def _tell(ledger: Path, news: Callable[[dict[_Key, list[Price]]], list[Price]]) -> Repriced:
    places = Places.of(ledger)
    places.make()
    ingest(ledger, wait_s=_WAITS_S)
    with elected(places, wait_s=_WAITS_S) as won:
        if not won:
            message = f"Another process is at work on {places.ledger}. Try again; nothing was done."
            raise LedgerError(message)
        from spanflow.ledger.store import open_store  # noqa: PLC0415 - duckdb only where it is needed

        with open_store(places, swift()) as connection, transaction(connection):
            prices = _checked(news(_imported(connection)))
            _write(connection, prices)
            calls = _count_differing(connection, is_news=bool(prices))
            [(unpriced,)] = connection.execute(
                "SELECT count(*) FROM llm_calls WHERE counted AND cost_usd IS NULL"
            ).fetchall()
    publish(ledger, force=True, wait_s=_WAITS_S)
    return Repriced(len(prices), calls, int(unpriced))


def _key(price: Price) -> _Key:
    return price.model, price.provider


def _imported(connection: duckdb.DuckDBPyConnection) -> dict[_Key, list[Price]]:
    """Return the imported prices that hold now, by model and provider."""
    names = ", ".join(field.name for field in fields(Price))
    rows = connection.execute(
        f"SELECT {names} FROM prices WHERE source <> $1 "  # noqa: S608 - our own columns
        "QUALIFY valid_from = max(valid_from) OVER (PARTITION BY model, provider) "
        "ORDER BY model, provider, above_input_tokens",
        [BY_HAND],
    ).fetchall()
    return {key: list(prices) for key, prices in groupby((Price(*row) for row in rows), _key)}


def _news(known: dict[_Key, list[Price]], prices: Iterable[Price], day: date) -> list[Price]:
    """Return which of some prices are new, each with the day from which it holds."""
    told: dict[_Key, list[Price]] = {}
    for price in prices:
        told.setdefault(_key(price), []).append(price)
    news: list[Price] = []
    for key, steps in told.items():
        before = known.get(key)
        if before is not None and _steps(before) == _steps(steps):
            continue
        since = _FIRST_DAY if before is None else max(day, before[0].valid_from)
        news += [replace(step, valid_from=since) for step in steps]
    return news


def _steps(prices: Iterable[Price]) -> dict[int, tuple[Decimal | None, ...]]:
    return {price.above_input_tokens: price.rates for price in prices}


def _checked(prices: list[Price]) -> list[Price]:
    for price in prices:
        for rate in price.rates:
            if rate is not None and not (rate.is_finite() and 0 <= rate <= _MOST_USD):
                message = (
                    f"{rate} is no price of {price.model}: name US dollars per million tokens."
                )
                raise LedgerError(message)
        if not price.model or price.above_input_tokens < 0:
            message = "A price needs a model, and steps of its input that are not negative."
            raise LedgerError(message)
    return prices


def _write(connection: duckdb.DuckDBPyConnection, prices: list[Price]) -> None:
    """Write prices; each takes the place of what was told of its model for that day."""
    if not prices:
        return
    columns = [list(column) for column in zip(*map(astuple, prices), strict=True)]
    rates = range(4, 9)
    texts = [
        [None if value is None else format(value, "f") for value in column]
        if place in rates
        else column
        for place, column in enumerate(columns)
    ]
    unnested = ", ".join(f"unnest(${place + 1})" for place in range(len(texts)))
    names = ", ".join(field.name for field in fields(Price))
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE told AS FROM prices LIMIT 0",
    )
    connection.execute(
        f"INSERT INTO told SELECT {unnested}, make_timestamp(${len(texts) + 1})",
        [*texts, time.time_ns() // 1_000],
    )
    connection.execute(
        "DELETE FROM prices WHERE EXISTS (FROM told t WHERE t.model = prices.model "
        "AND t.provider IS NOT DISTINCT FROM prices.provider AND t.valid_from = prices.valid_from "
        "AND (t.source = $1) = (prices.source = $1))",
        [BY_HAND],
    )
    connection.execute(f"INSERT INTO prices ({names}, told_at) FROM told")


def _count_differing(connection: duckdb.DuckDBPyConnection, *, is_news: bool) -> int:
    """Count anew, a part of the turns at a time, what the prices make differ."""
    connection.execute(statement("differing", at_once=_TURNS_AT_ONCE))
    [(calls, batches)] = connection.execute(
        "SELECT (SELECT count(*) FROM differing), "
        "(SELECT coalesce(max(batch), 0) + 1 FROM differing_turns)"
    ).fetchall()
    if is_news or calls:
        connection.execute("UPDATE meta SET revision = revision + 1")
    for batch in range(int(batches) if calls else 0):
        connection.execute(statement("batch", batch=batch))
        count_anew(connection)
        connection.execute(statement("recounted"))
        [(low, high)] = connection.execute(
            "SELECT coalesce(min(at_ns), 0), coalesce(max(at_ns), 0) "
            "FROM records SEMI JOIN touched_turns USING (turn_id)"
        ).fetchall()
        connection.execute(statement("facts", low=low, high=high))
        join_turns(connection, low, high)
        connection.execute(statement("engagements"))
    return int(calls)
