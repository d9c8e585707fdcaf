"""Turns answers into frames of pandas, polars and Arrow, with every column's type, nulls as nulls.

The types come from the rows' fields, so that an answer without rows has them, too. JSON becomes
text, as in the ledger.
"""

from __future__ import annotations

import json
import types
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args, get_origin

from spanflow.query.extras import needed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spanflow.query.rows import Row

__all__ = ["arrow_table", "cells", "pandas_frame", "polars_frame"]

_Kind: TypeAlias = Literal["text", "whole", "number", "moment", "day", "texts", "json"]
_KINDS: dict[object, _Kind] = {
    str: "text",
    int: "whole",
    float: "number",
    datetime: "moment",
    date: "day",
    tuple[str, ...]: "texts",
}
_PANDAS = {
    "text": "string",
    "whole": "Int64",
    "number": "Float64",
    "moment": "datetime64[us]",
    "day": "datetime64[us]",
    "texts": "object",
    "json": "string",
}


def cells(row: type[Row], rows: Sequence[Row]) -> dict[str, list[Any]]:
    """Return the values column by column; JSON is text, lists are lists."""
    kinds = _kinds(row)
    return {
        name: [_plain(getattr(one, name), kind) for one in rows] for name, kind in kinds.items()
    }


def pandas_frame(row: type[Row], rows: Sequence[Row]) -> Any:
    """Return a ``pandas.DataFrame`` with types that know nulls."""
    pandas = needed("pandas", "pandas")
    filled = cells(row, rows)
    return pandas.DataFrame(
        {
            name: pandas.Series(filled[name], dtype=_PANDAS[kind])
            for name, kind in _kinds(row).items()
        }
    )


def polars_frame(row: type[Row], rows: Sequence[Row]) -> Any:
    """Return a ``polars.DataFrame``."""
    polars = needed("polars", "polars")
    kinds = {
        "text": polars.String,
        "whole": polars.Int64,
        "number": polars.Float64,
        "moment": polars.Datetime("us"),
        "day": polars.Date,
        "texts": polars.List(polars.String),
        "json": polars.String,
    }
    schema = {name: kinds[kind] for name, kind in _kinds(row).items()}
    return polars.DataFrame(cells(row, rows), schema=schema)


def arrow_table(row: type[Row], rows: Sequence[Row]) -> Any:
    """Return a ``pyarrow.Table``."""
    arrow = needed("pyarrow", "arrow")
    kinds = {
        "text": arrow.string(),
        "whole": arrow.int64(),
        "number": arrow.float64(),
        "moment": arrow.timestamp("us"),
        "day": arrow.date32(),
        "texts": arrow.list_(arrow.string()),
        "json": arrow.string(),
    }
    schema = arrow.schema([(name, kinds[kind]) for name, kind in _kinds(row).items()])
    return arrow.table(cells(row, rows), schema=schema)


def _kinds(row: type[Row]) -> dict[str, _Kind]:
    return {name: _kind(field.annotation) for name, field in row.model_fields.items()}


def _kind(annotation: object) -> _Kind:
    if get_origin(annotation) is types.UnionType:
        annotation = next(one for one in get_args(annotation) if one is not type(None))
    if get_origin(annotation) is Literal:
        return "text"
    return _KINDS.get(annotation, "json")


def _plain(value: Any, kind: _Kind) -> Any:
    if value is None:
        return None
    if kind == "json":
        return json.dumps(value, ensure_ascii=False)
    return list(value) if kind == "texts" else value
