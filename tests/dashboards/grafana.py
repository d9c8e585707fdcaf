"""The shipped dashboards as Grafana reads them, and what it does to a query before it is asked.

Grafana itself is not here: variables are filled in as its documentation tells, all else is real.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import duckdb

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "grafana-dashboards"
NAMES = ("engagements", "health", "steps", "tokens-and-cost")

VARIABLE = re.compile(r"\$\{(\w+)(?::(\w+))?\}|\$(\w+)")


class AsItIs(str):
    """The custom value of `All`, which Grafana never formats."""

    __slots__ = ()


ALL = AsItIs(".*")


@dataclass(frozen=True)
class Query:
    """One query of one panel."""

    dashboard: str
    panel: Mapping[str, Any]
    target: Mapping[str, Any]

    @property
    def title(self) -> str:
        return self.panel["title"]

    @property
    def kind(self) -> str:
        """The kind of data source."""
        return self.target["datasource"]["type"]

    @property
    def id(self) -> str:
        return f"{self.dashboard}: {self.title} {self.target['refId']}".replace(" ", "-")


@dataclass(frozen=True)
class Asked:
    """A ledger, and what is chosen above the panels."""

    connection: duckdb.DuckDBPyConnection
    variables: dict[str, Any]

    def answer(self, sql: str) -> tuple[list[tuple[str, str]], list[tuple[Any, ...]]]:
        """Columns with their types, and rows."""
        done = self.connection.execute(sql)
        columns = [(column[0], str(column[1])) for column in done.description or ()]
        return columns, done.fetchall()

    def shown(self, sql: str, **chosen: Any) -> tuple[list[tuple[str, str]], list[tuple[Any, ...]]]:
        """The same for a query with variables, as the data source fills them in."""
        return self.answer(filled(sql, self.variables | chosen, "sqlstring"))


def dashboard(name: str) -> dict[str, Any]:
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def panels(name: str) -> Iterator[dict[str, Any]]:
    """Every panel that is no row, folded ones too."""
    for panel in dashboard(name)["panels"]:
        if panel["type"] == "row":
            yield from panel.get("panels", ())
        else:
            yield panel


def queries(kind: str = "") -> list[Query]:
    """Every query of every panel, of one kind of data source or of all."""
    return [
        query
        for name in NAMES
        for panel in panels(name)
        for target in panel["targets"]
        for query in [Query(name, panel, target)]
        if query.kind == kind or not kind
    ]


def variables(name: str) -> dict[str, dict[str, Any]]:
    return {found["name"]: found for found in dashboard(name)["templating"]["list"]}


def filled(text: str, values: Mapping[str, Any], default: str) -> str:
    """Fill in variables; what is no variable stays as it is.

    Args:
        text: A query.
        values: The variables' values; a list where several are chosen.
        default: The format which the data source asks for where the query names none.
    """

    def value(match: re.Match[str]) -> str:
        name, how = match[1] or match[3], match[2] or default
        if name not in values:
            return match[0]
        return _formatted(values[name], how)

    return VARIABLE.sub(value, text)


def _formatted(value: Any, how: str) -> str:
    if isinstance(value, AsItIs):
        return value
    if how == "sqlstring":
        many = value if isinstance(value, list) else [value]
        return ",".join("'" + str(one).replace("'", "''") + "'" for one in many)
    if how == "regex":
        many = value if isinstance(value, list) else [value]
        escaped = [re.sub(r"[\\^$*+?.()|[\]{}/]", r"\\\g<0>", str(one)) for one in many]
        return escaped[0] if len(escaped) == 1 else f"({'|'.join(escaped)})"
    if how == "prometheus":  # what its data source does to a value of a variable with `All`
        return re.sub(r"[$^*{}\[\]'+?.()|]", r"\\\\\g<0>", str(value).replace("\\", "\\" * 4))
    assert how == "raw", how
    assert not isinstance(value, list), "several values have no plain form in a query"
    return str(value)


def units(panel: Mapping[str, Any]) -> dict[str, str]:
    """The units that a panel's columns are given by name, and under `` that of all others."""
    config = panel["fieldConfig"]
    told = {"": config["defaults"].get("unit", "")}
    for name, property_ in overrides(config):
        if property_["id"] == "unit":
            told[name] = property_["value"]
    return told


def titles(panel: Mapping[str, Any]) -> dict[str, str]:
    """What a panel calls its columns."""
    return {
        name: property_["value"]
        for name, property_ in overrides(panel["fieldConfig"])
        if property_["id"] == "displayName"
    }


def overrides(config: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for override in config["overrides"]:
        assert override["matcher"]["id"] == "byName"
        for property_ in override["properties"]:
            yield override["matcher"]["options"], property_
