"""Where panels get their numbers: data sources, variables and queries of a dashboard.

It knows query languages and nothing of how a panel looks.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final
from urllib.parse import quote

from grafana_foundation_sdk.builders.dashboard import (
    DatasourceVariable,
    QueryVariable,
    TextBoxVariable,
)
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.builders.tempo import TempoQuery
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.variants import Dataquery as AnyQuery
from grafana_foundation_sdk.models.dashboard import (
    DataSourceRef,
    VariableOption,
    VariableRefresh,
    VariableSort,
)
from grafana_foundation_sdk.models.tempo import MetricsQueryType, SearchTableType

__all__ = [
    "CLICKHOUSE",
    "LEDGER",
    "PROMETHEUS",
    "TEMPO",
    "bars",
    "choice",
    "clickhouse",
    "engagement",
    "explored",
    "grown",
    "ledger",
    "now",
    "over_time",
    "source",
    "step",
    "text",
    "traceql",
    "traceql_metrics",
]

PROMETHEUS: Final = DataSourceRef("prometheus", "${prometheus}")
TEMPO: Final = DataSourceRef("tempo", "${tempo}")
LEDGER: Final = DataSourceRef("motherduck-duckdb-datasource", "${ledger}")
CLICKHOUSE: Final = DataSourceRef("grafana-clickhouse-datasource", "${clickhouse}")

_LABELS: Final = {
    "prometheus": "Metrics",
    "tempo": "Traces",
    "ledger": "Ledger",
    "clickhouse": "ClickHouse",
}
_SQL: Final = Path(__file__).with_name("sql")
_TIME_SERIES, _TABLE = 0, 1
_ANY: Final = ".*"

# The same for a view that has `started_at` and `name`.
_IN_RANGE: Final = (
    "started_at >= epoch_ms(${__from}::BIGINT) AND started_at < epoch_ms(${__to}::BIGINT)"
    " AND $n$${engagement:raw}$n$ IN ('.*', name)"
)
# What every macro of the ledger is told: the time range and the chosen engagement.
_CHOSEN: Final = (
    "since := epoch_ms(${__from}::BIGINT), until := epoch_ms(${__to}::BIGINT),"
    " name := nullif($n$${engagement:raw}$n$, '.*')"
)


class _Sql(Builder[AnyQuery], AnyQuery):
    """A query in SQL as the DuckDB and ClickHouse data sources take it."""

    def __init__(self, ref: str, source: DataSourceRef, **fields: object) -> None:
        self.told = {"refId": ref, "datasource": source, **fields}

    def build(self) -> AnyQuery:
        return self

    def to_json(self) -> dict[str, object]:
        return self.told


def ledger(name: str, ref: str = "A", *, over_time: bool = False) -> _Sql:
    """Ask the ledger what `sql/<name>.sql` asks.

    Args:
        name: The file; `/* chosen */` in it stands for the time range and the chosen engagement
            as a macro takes them, `/* in range */` for the same as a condition.
        ref: The query's letter.
        over_time: The rows are points in time, one column or label a line.
    """
    asked = _read(f"{name}.sql").replace("/* chosen */", _CHOSEN)
    return _Sql(
        ref,
        LEDGER,
        rawSql=asked.replace("/* in range */", _IN_RANGE),
        format=_TIME_SERIES if over_time else _TABLE,
        editorMode="code",
        dataset="default",
    )


def clickhouse(name: str, ref: str = "A") -> _Sql:
    """Ask a ClickHouse that the Collector writes spans to, in the words of `sql/<name>.sql`."""
    return _Sql(
        ref,
        CLICKHOUSE,
        rawSql=_read(f"{name}.sql"),
        format=_TABLE,
        queryType="table",
        editorType="sql",
        pluginVersion="4.0.0",
    )


def _read(name: str) -> str:
    return (_SQL / name).read_text(encoding="utf-8").strip()


def grown(metric: str, by: str, window: str) -> str:
    """Return PromQL for how much a counter grew in a window, exactly.

    `increase()` guesses beyond the first and last sample and never counts what a series begins
    with: the one turn that failed today would be 0. Here a series counts from what it was before
    the window, or from nothing where it is new or began anew.

    Args:
        metric: The counter, with matchers.
        by: The labels to keep, comma-separated.
        window: How long, `$__range` for all that is shown, `$__interval` for one bar of it.
    """
    last = f"last_over_time({metric}[{window}])"
    before = f"last_over_time({metric}[1h] offset {window})"
    kept = f"sum by ({by})" if by else "sum"
    return f"{kept} ({last} - {before} >= 0 or {last})"


def now(expression: str, legend: str, ref: str = "A") -> Dataquery:
    """Ask Prometheus for one value a series, at the end of the time range."""
    query = Dataquery().expr(expression).legend_format(legend).ref_id(ref)
    return query.datasource(PROMETHEUS).instant()


def over_time(expression: str, legend: str, ref: str = "A") -> Dataquery:
    """Ask Prometheus for lines over time."""
    query = Dataquery().expr(expression).legend_format(legend).ref_id(ref)
    return query.datasource(PROMETHEUS).range()


def bars(metric: str, by: str, legend: str, ref: str = "A") -> Dataquery:
    """Ask Prometheus how much a counter grew in each interval; all bars add up to the whole."""
    return over_time(grown(metric, by, "$__interval"), legend, ref)


def traceql(query: str, ref: str = "A", *, limit: int = 50) -> TempoQuery:
    """Ask Tempo for spans."""
    asked = TempoQuery().query(query).ref_id(ref).query_type("traceql").limit(limit)
    return asked.table_type(SearchTableType.SPANS).datasource(TEMPO)


def traceql_metrics(query: str, ref: str = "A") -> TempoQuery:
    """Ask Tempo for numbers over time, made of spans."""
    asked = TempoQuery().query(query).ref_id(ref).query_type("traceql")
    return asked.metrics_query_type(MetricsQueryType.RANGE).datasource(TEMPO)


def explored(query: str) -> str:
    """Return the address of Grafana's Explore page with a TraceQL query.

    Args:
        query: May hold variables of Grafana, which are filled in where the link is shown.
    """
    panes = {
        "t": {
            "datasource": "${tempo}",
            "queries": [
                {
                    "refId": "A",
                    "datasource": {"type": "tempo", "uid": "${tempo}"},
                    "queryType": "traceql",
                    "tableType": "traces",
                    "limit": 50,
                    "query": query,
                }
            ],
            "range": {"from": "${__from}", "to": "${__to}"},
        }
    }
    told = quote(json.dumps(panes, separators=(",", ":")), safe="${}:_.,[]=")
    return f"/explore?schemaVersion=1&panes={told}"


def source(ref: DataSourceRef) -> DatasourceVariable:
    """Let the reader choose which data source of a kind the dashboard asks."""
    name = str(ref.uid).strip("${}")
    return DatasourceVariable(name).label(_LABELS[name]).type(str(ref.type_val))


def engagement() -> QueryVariable:
    """Let the reader choose one name of engagements, or all."""
    return (
        _asked("engagement", "Engagement", "names")
        .include_all(True)
        .all_value(_ANY)
        .current(VariableOption(selected=True, text="All", value="$__all"))
    )


def step() -> QueryVariable:
    """Let the reader choose one step, or all."""
    return (
        _asked("step", "Step", "step_paths")
        .include_all(True)
        .all_value(_ANY)
        .current(VariableOption(selected=True, text="All", value="$__all"))
    )


def choice(name: str, label: str, sql: str, description: str) -> QueryVariable:
    """Let the reader choose several of what the ledger has, in their own order, or all."""
    return (
        _asked(name, label, sql)
        .description(description)
        .multi(True)
        .include_all(True)
        .current(VariableOption(selected=True, text=["All"], value=["$__all"]))
    )


def _asked(name: str, label: str, sql: str) -> QueryVariable:
    """A variable of what the ledger answers; the data source takes the plain SQL."""
    return (
        QueryVariable(name)
        .label(label)
        .datasource(LEDGER)
        .query(_read(f"{sql}.sql"))
        .refresh(VariableRefresh.ON_DASHBOARD_LOAD)
        .sort(VariableSort.DISABLED)
    )


def text(name: str, label: str, value: str, description: str) -> TextBoxVariable:
    """Let the reader type something."""
    return (
        TextBoxVariable(name)
        .label(label)
        .description(description)
        .default_value(value)
        .current(VariableOption(selected=True, text=value, value=value))
        .options([VariableOption(selected=True, text=value, value=value)])
    )
