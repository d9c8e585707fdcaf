"""The panels that ask ClickHouse, on what the Collector writes there, say what the ledger says."""

from __future__ import annotations

import re

import pytest
from backends import clickhouse, dashed, servers
from dashboards import grafana

pytestmark = [pytest.mark.backends, pytest.mark.timeout(600)]

# Calls inside a call were told by two instrumentations, and are two spans.
PLAIN = {
    "Steps of all hosts": """
        SELECT path AS step, count(*) AS executions, count(*) FILTER (status = 'failed') AS failed,
            coalesce(sum(total_tokens), 0)::BIGINT AS total_tokens
        FROM steps GROUP BY path ORDER BY executions DESC, step""",
    "Tokens of all hosts by model": """
        SELECT model, count(*) AS calls, coalesce(sum(input_tokens), 0)::BIGINT AS input_tokens,
            coalesce(sum(output_tokens), 0)::BIGINT AS output_tokens,
            coalesce(sum(total_tokens), 0)::BIGINT AS total_tokens
        FROM llm_calls GROUP BY model ORDER BY total_tokens DESC, model""",
}


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stored")
    recorded = dashed.Recorded(folder / "traces.duckdb")
    with clickhouse.serving(folder) as server:
        where = {"CLICKHOUSE": server.address, "CLICKHOUSE_COMPRESS": "none"}
        with servers.collector(folder, "otlp-to-clickhouse.yaml", **where) as sending:
            dashed.live(recorded.ledger, sending)
        assert server.refused == []
        yield recorded, server


def _asked(query, recorded, step):
    sql = grafana.filled(query.target["rawSql"], {"step": step}, "sqlstring")
    began, ended = recorded.began - 60, recorded.ended + 60
    between = rf"\1 >= toDateTime({began}) AND \1 <= toDateTime({ended})"
    sql = re.sub(r"\$__timeFilter\((\w+)\)", between, sql)
    return sql.replace("FROM otel_traces", "FROM otel.otel_traces")


def test_every_panel_is_held_against_the_ledger():
    assert {query.title for query in grafana.queries(KIND)} == PLAIN.keys()


KIND = "grafana-clickhouse-datasource"


@pytest.mark.parametrize("query", grafana.queries(KIND), ids=lambda query: query.id)
def test_clickhouse_says_what_the_ledger_says(query, stored):
    recorded, server = stored
    columns = list(grafana.titles(query.panel))
    rows = server.rows(_asked(query, recorded, grafana.ALL))
    expected = recorded.rows(PLAIN[query.title])
    assert rows
    found = [dict(zip(columns, row, strict=True)) for row in rows]
    assert [
        {name: type(row[name])(one[name]) for name in row}
        for one, row in zip(found, expected, strict=True)
    ] == expected
    units = grafana.units(query.panel)
    for name, value in found[0].items():
        assert bool(units.get(name)) == (not isinstance(value, str) or value.isdigit()), name


def test_one_step_can_be_chosen_whatever_its_name(stored):
    recorded, server = stored
    [query] = [q for q in grafana.queries(KIND) if q.title == "Steps of all hosts"]
    assert [row[0] for row in server.rows(_asked(query, recorded, "pay"))] == ["pay"]
    assert server.rows(_asked(query, recorded, "it's \\ a 'trap'")) == []
