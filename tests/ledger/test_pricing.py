"""Prices: which rates a call gets, what they make of it, and what a change does to history."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spanflow.errors import LedgerError
from spanflow.ledger.places import Places
from spanflow.ledger.pricing import BY_HAND, Price, import_prices, reprice, set_price
from spanflow.ledger.store import open_store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import duckdb

DAY_NS = 86_400_000_000_000
TODAY = date(2026, 11, 21)


def price(model: str = "m", given: str = "1", produced: str = "2", **more: Any) -> Price:
    return Price(
        model,
        input_usd_per_million=Decimal(given),
        output_usd_per_million=Decimal(produced),
        **more,
    )


@dataclass
class Book:
    """A ledger to write to and to ask."""

    path: Path
    make: Any

    def write(self, *records: dict[str, Any]) -> None:
        self.make.write(self.path, list(records))

    def sql(self, query: str) -> list[tuple[Any, ...]]:
        return [tuple(row.values()) for row in self.make.ask(self.path, query)]

    def one(self, query: str) -> Any:
        [(value,)] = self.sql(query)
        return value


@pytest.fixture
def ledger(ledger, make) -> Book:
    return Book(ledger, make)


def call(make, span: int, **fields: Any) -> dict[str, Any]:
    return make.llm(span, fields.pop("step_id", None), **fields)


def costs(ledger, query: str = "SELECT cost_usd, cost_reported FROM llm_calls ORDER BY span_id"):
    return ledger.sql(query)


def test_a_call_without_a_reported_cost_is_priced(ledger, make):
    set_price(ledger.path, price())
    ledger.write(
        make.turn(),
        make.step(2, "a"),
        call(make, 3, step_id=2, model="m", input_tokens=1_000, output_tokens=500),
        call(make, 4, step_id=2, model="m", input_tokens=1, output_tokens=1, cost_usd=7.0),
        call(make, 5, step_id=2, model="unheard of", input_tokens=1, output_tokens=1),
    )
    assert costs(ledger) == [(0.002, False), (7.0, True), (None, None)]
    for view in ("steps", "turns", "engagements"):
        assert ledger.sql(f"SELECT cost_usd, unpriced_calls FROM {view}") == [(7.002, 1)]
    assert ledger.sql("SELECT payload->>'cost_usd' FROM events ORDER BY span_id") == [
        ("0.002",),
        ("7.0",),
        (None,),
    ]


def test_a_price_set_later_counts_history_anew(ledger, make):
    ledger.write(
        make.turn(),
        make.step(2, "a"),
        call(make, 3, step_id=2, model="m", input_tokens=1_000_000, output_tokens=0),
        call(make, 4, turn=None, trace=9, model="m", input_tokens=1_000_000, output_tokens=0),
    )
    assert ledger.sql("SELECT cost_usd, unpriced_calls FROM engagements") == [(None, 1)]
    before = ledger.one("SELECT revision FROM meta")
    done = set_price(ledger.path, price(given="3"))
    assert (done.prices, done.calls, done.unpriced_calls) == (1, 2, 0)
    assert costs(ledger) == [(3.0, False), (3.0, False)]
    for view in ("steps", "turns", "engagements"):
        assert ledger.sql(f"SELECT cost_usd, unpriced_calls FROM {view}") == [(3.0, 0)]
    assert ledger.one("SELECT revision FROM meta") > before
    again = reprice(ledger.path)
    assert (again.prices, again.calls) == (0, 0)


def test_what_was_tried_again_is_priced_too(ledger, make):
    spent = {"step_id": 2, "model": "m", "input_tokens": 1_000_000, "output_tokens": 0}
    ledger.write(
        make.turn(),
        make.step(2, "a", attempts=2),
        call(make, 3, **spent),
        call(make, 4, attempt=2, at=1, **spent),
    )
    set_price(ledger.path, price())
    for view in ("turns", "engagements"):
        assert ledger.sql(f"SELECT cost_usd, retried_cost_usd FROM {view}") == [(2.0, 1.0)]
    set_price(ledger.path, price(given="3"))
    assert ledger.sql("SELECT cost_usd, retried_cost_usd FROM engagements") == [(6.0, 3.0)]


def test_the_price_of_the_day_a_call_began(ledger, make):
    began = datetime.fromtimestamp(make.T0 / 1e9, UTC).date()
    set_price(ledger.path, price(given="1"))
    set_price(ledger.path, price(given="2", valid_from=began))
    set_price(ledger.path, price(given="4", valid_from=date(began.year + 1, 1, 1)))
    day_before = call(make, 3, model="m", input_tokens=1_000_000, output_tokens=0)
    day_before["started_ns"] -= DAY_NS
    ledger.write(
        make.turn(),
        day_before,
        call(make, 4, model="m", input_tokens=1_000_000, output_tokens=0),
    )
    assert costs(ledger) == [(1.0, False), (2.0, False)]
    assert ledger.sql("SELECT repriced_usd FROM repriced(on_day := DATE '2999-01-01')") == [
        (4.0,),
        (4.0,),
    ]
    assert ledger.sql("SELECT repriced_usd, cost_usd FROM repriced() ORDER BY span_id") == [
        (1.0, 1.0),
        (2.0, 2.0),
    ]


def test_which_price_goes_before_which(ledger, make):
    import_prices(
        ledger.path,
        [
            price(given="1", source="x"),
            price(given="2", provider="openai", source="x"),
            price(given="3", provider="openai", above_input_tokens=1_000_000, source="x"),
            price("n", given="5", source="x"),
        ],
    )
    set_price(ledger.path, price("n", given="6"))
    many = {"input_tokens": 1_000_000, "output_tokens": 0}
    ledger.write(
        make.turn(),
        call(make, 3, model="m", **many),
        call(make, 4, model="m", provider="openai", **many),
        call(make, 5, model="m", provider="openai", input_tokens=2_000_000, output_tokens=0),
        call(make, 6, model="n", provider="openai", **many),
        call(make, 7, model="M", provider="openai", **many),
    )
    assert [cost for cost, _ in costs(ledger)] == [1.0, 2.0, 6.0, 6.0, None]


@pytest.mark.parametrize(
    "tokens",
    [
        {"input_tokens": 10, "output_tokens": None},
        {"input_tokens": None, "output_tokens": 10},
        {"input_tokens": None, "output_tokens": None, "total_tokens": 10},
        {"input_tokens": 10, "output_tokens": 1, "cache_read_tokens": 11},
        {"input_tokens": 10, "output_tokens": 1, "cache_read_tokens": 1},
        {"input_tokens": 10, "output_tokens": 1, "cache_write_tokens": 1},
        {"input_tokens": 10, "output_tokens": 1, "reasoning_tokens": 2},
        {"input_tokens": -(2**63), "output_tokens": 2**63 - 1, "cache_read_tokens": 2**63 - 1},
        {"input_tokens": 2**63 - 1, "output_tokens": 2**63 - 1},
    ],
)
def test_what_cannot_be_priced_is_unpriced_and_never_free(ledger, make, tokens):
    set_price(ledger.path, price())
    ledger.write(make.turn(), call(make, 3, model="m", **{"total_tokens": None} | tokens))
    assert costs(ledger) == [(None, None)]
    assert ledger.sql("SELECT cost_usd, unpriced_calls FROM engagements") == [(None, 1)]


def test_no_tokens_cost_nothing_where_the_model_is_known(ledger, make):
    set_price(ledger.path, price())
    none = {"input_tokens": 0, "output_tokens": 0}
    ledger.write(make.turn(), call(make, 3, model="m", **none), call(make, 4, model="x", **none))
    assert costs(ledger) == [(0.0, False), (None, None)]


def test_embeddings_have_no_output(ledger, make):
    set_price(ledger.path, price())
    one = call(make, 3, model="m", input_tokens=1_000_000, output_tokens=None)
    ledger.write(make.turn(), one | {"kind": "embeddings"})
    assert costs(ledger) == [(1.0, False)]


def test_importing_again_changes_what_has_changed_from_today_on(ledger):
    first = [price("a", source="x"), price("b", source="x")]
    assert import_prices(ledger.path, first, TODAY).prices == 2
    assert import_prices(ledger.path, first, TODAY).prices == 0
    second = [price("a", source="y"), price("b", given="9", source="y")]
    assert import_prices(ledger.path, second, TODAY).prices == 1
    third = [price("b", given="8", source="y")]
    assert import_prices(ledger.path, third, TODAY).prices == 1
    assert ledger.sql(
        "SELECT model, valid_from, input_usd_per_million::INT, source FROM prices ORDER BY ALL"
    ) == [
        ("a", date(1970, 1, 1), 1, "x"),
        ("b", date(1970, 1, 1), 1, "x"),
        ("b", TODAY, 8, "y"),
    ]


def test_setting_again_takes_the_place_of_what_was_set(ledger):
    set_price(ledger.path, price(given="1"))
    set_price(ledger.path, price(given="2"))
    set_price(ledger.path, price(given="3", provider="p"))
    assert ledger.sql(
        "SELECT provider, input_usd_per_million::INT, source FROM prices ORDER BY ALL"
    ) == [("p", 3, BY_HAND), (None, 2, BY_HAND)]


@pytest.mark.parametrize("rate", ["-1", "NaN", "1e30"])
def test_what_is_no_price_is_refused(ledger, rate):
    with pytest.raises(LedgerError, match="price"):
        set_price(ledger.path, price(given=rate))


def test_the_audit_counts_with_the_same_prices(ledger, make):
    from spanflow.query.journeys import connect

    set_price(ledger.path, price())
    ledger.write(make.turn(), call(make, 3, model="m", input_tokens=10, output_tokens=1))
    with connect(ledger.path) as opened:
        digest = opened.digest("e1")
    set_price(ledger.path, price(given="5"))
    with connect(ledger.path) as opened:
        assert opened.verify("e1", digest) == "same"


def test_prices_stay_when_something_is_forgotten(ledger, make):
    from spanflow.ledger.retention import forget

    set_price(ledger.path, price())
    ledger.write(make.turn(), call(make, 3, model="m", input_tokens=10, output_tokens=1))
    forget(ledger.path, engagement_id="e1", wait_s=0)
    assert ledger.one("SELECT count(*) FROM prices") == 1
    ledger.write(make.turn(7, engagement_id="e2"))
    assert ledger.one("SELECT count(*) FROM prices") == 1


@pytest.fixture(scope="module")
def connection(tmp_path_factory) -> Iterator[duckdb.DuckDBPyConnection]:
    places = Places.of(tmp_path_factory.mktemp("prices") / "t.duckdb")
    places.make()
    with open_store(places) as opened:
        yield opened


COUNTS = st.none() | st.integers(-3, 10**12) | st.integers(0, 300)
RATES = st.none() | st.decimals(0, 10**6, places=10)


def slowly(rates: tuple[Decimal | None, ...], counts: tuple[int | None, ...]) -> Decimal | None:
    """What a call costs, without a trick."""
    given, produced, read, write, reasoning = counts
    if given is None or produced is None:
        return None
    read, write, reasoning = read or 0, write or 0, reasoning or 0
    rates = (*rates[:4], rates[1] if rates[4] is None else rates[4])
    parts = (given - read - write, produced - reasoning, read, write, reasoning)
    total = Decimal(0)
    for tokens, rate in zip(parts, rates, strict=True):
        if tokens < 0 or (tokens and rate is None):
            return None
        total += tokens * (rate or Decimal(0)) / 1_000_000
    return total


@settings(max_examples=300, deadline=None)
@given(st.tuples(*[RATES] * 5), st.tuples(*[COUNTS] * 5))
def test_the_arithmetic_is_exact(connection, rates, counts):
    connection.execute("DELETE FROM prices")
    connection.execute(
        "INSERT INTO prices SELECT 'm', NULL, DATE '1970-01-01', 0, "
        "$1::VARCHAR::DECIMAL(20, 10), $2::VARCHAR::DECIMAL(20, 10), $3::VARCHAR::DECIMAL(20, 10), "
        "$4::VARCHAR::DECIMAL(20, 10), $5::VARCHAR::DECIMAL(20, 10), 'set', now()::TIMESTAMP",
        [None if rate is None else format(rate, "f") for rate in rates],
    )
    [(found,)] = connection.execute(
        "SELECT usd_at(rates_for('m', NULL, DATE '2026-01-01', $1::BIGINT), $1::BIGINT, "
        "$2::BIGINT, $3::BIGINT, $4::BIGINT, $5::BIGINT)",
        list(counts),
    ).fetchall()
    expected = slowly(rates, counts)
    if expected is None:
        assert found is None
    else:
        assert found == pytest.approx(float(expected), rel=1e-15, abs=0)


def test_many_turns_are_counted_a_part_at_a_time(ledger, make, monkeypatch):
    from spanflow.ledger import pricing

    monkeypatch.setattr(pricing, "_TURNS_AT_ONCE", 2)
    for number in range(1, 6):
        spent = {"input_tokens": 1_000_000, "output_tokens": 0}
        one = call(make, 100 + number, turn=number, model="m", **spent)
        ledger.write(make.turn(number), one)
    assert set_price(ledger.path, price()).calls == 5
    assert ledger.sql("SELECT sum(cost_usd), count(DISTINCT turn_id) FROM turns") == [(5.0, 5)]
    assert ledger.sql("SELECT cost_usd FROM engagements") == [(5.0,)]
