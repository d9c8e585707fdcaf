"""Frames keep every column, its type and its nulls, whatever the rows hold."""

from __future__ import annotations

import sys
from datetime import date, datetime

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from spanflow.errors import LedgerError
from spanflow.query import figures, rows
from spanflow.query.answers import Answer
from spanflow.query.journeys import connect

NOON = datetime(2026, 11, 18, 12)  # noqa: DTZ001 - a time of the ledger's
MODELS = [
    getattr(module, name)
    for module in (rows, figures)
    for name in module.__all__
    if name not in {"Row", "columns"}
]


@pytest.fixture
def journeys(ledger):
    with connect(ledger) as opened:
        return opened.journeys(as_of=NOON)


@pytest.fixture
def usage(ledger):
    with connect(ledger) as opened:
        return opened.usage_by("model", as_of=NOON)


def test_pandas_keeps_columns_types_and_nulls(journeys, usage):
    frame = journeys.df()
    assert tuple(frame.columns) == journeys.columns
    assert str(frame["turns"].dtype) == "Int64"
    assert str(frame["working_ms"].dtype) == "Float64"
    assert str(frame["user_id"].dtype) == "string"
    assert str(frame["started_at"].dtype) == "datetime64[us]"
    assert list(frame["turns"]) == [row.turns for row in journeys]
    assert [list(path) for path in frame["path"]] == [list(row.path) for row in journeys]
    for name in ("total_tokens", "cost_usd", "dropped_at", "metadata"):
        assert list(frame[name].isna()) == [getattr(row, name) is None for row in journeys]
    # A null does not make a number of a whole one.
    tokens = usage.df()["total_tokens"]
    assert str(tokens.dtype) == "Int64"
    assert [None if pd.isna(one) else int(one) for one in tokens] == [
        row.total_tokens for row in usage
    ]


def test_polars_keeps_columns_types_and_nulls(journeys):
    frame = journeys.pl()
    assert tuple(frame.columns) == journeys.columns
    assert frame.schema["turns"] == pl.Int64
    assert frame.schema["path"] == pl.List(pl.String)
    assert frame.schema["started_at"] == pl.Datetime("us")
    for name in ("started_at", "cost_usd", "total_tokens", "dropped_at"):
        assert frame[name].to_list() == [getattr(row, name) for row in journeys]
    assert frame["path"].to_list() == [list(row.path) for row in journeys]


def test_arrow_keeps_columns_types_and_nulls(journeys):
    table = journeys.arrow()
    assert tuple(table.column_names) == journeys.columns
    assert table.schema.field("turns").type == pa.int64()
    assert table.schema.field("trace_ids").type == pa.list_(pa.string())
    for name in ("started_at", "cost_usd", "total_tokens", "dropped_at"):
        assert table[name].to_pylist() == [getattr(row, name) for row in journeys]
    assert '{"plan": "pro", "tries": 1, "a/b": "deep"}' in table["metadata"].to_pylist()


@pytest.mark.parametrize("model", MODELS)
def test_an_answer_without_rows_has_its_columns_and_types(model):
    empty = Answer("journeys", model, ())
    kinds = {
        int: pa.int64(),
        float: pa.float64(),
        datetime: pa.timestamp("us"),
        date: pa.date32(),
    }
    table = empty.arrow()
    assert tuple(table.column_names) == tuple(empty.df().columns) == tuple(empty.pl().columns)
    assert table.num_rows == len(empty.df()) == len(empty.pl()) == 0
    for name, field in model.model_fields.items():
        known = {*getattr(field.annotation, "__args__", ()), field.annotation}
        for python, arrow in kinds.items():
            if python in known:
                assert table.schema.field(name).type == arrow, name


@pytest.mark.parametrize(
    ("library", "method", "extra"),
    [
        ("pandas", "df", "pandas"),
        ("polars", "pl", "polars"),
        ("pyarrow", "arrow", "arrow"),
        ("matplotlib", "plot", "plot"),
    ],
)
def test_what_is_not_installed_is_named_with_its_extra(
    journeys, monkeypatch, library, method, extra
):
    for name in [name for name in sys.modules if name.partition(".")[0] == library]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(LedgerError, match=rf'{library}: pip install "spanflow\[{extra}\]"'):
        getattr(journeys, method)()
