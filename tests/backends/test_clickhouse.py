"""What the Collector writes into a ClickHouse by the shipped configuration is what the ledger has.

There is no ClickHouse server to be had: its engine, embedded, stands behind its HTTP interface.
"""

from __future__ import annotations

from contextlib import closing

import pytest
from backends import clickhouse, servers

import spanflow
from spanflow import semconv
from spanflow.query.clickhouse import open_engine
from spanflow.query.questions import Questions

pytestmark = [pytest.mark.backends, pytest.mark.timeout(600)]

COLUMNS = {
    "Timestamp": "DateTime64(9)",
    "TraceId": "String",
    "SpanId": "String",
    "ParentSpanId": "String",
    "TraceState": "String",
    "SpanName": "LowCardinality(String)",
    "SpanKind": "LowCardinality(String)",
    "ServiceName": "LowCardinality(String)",
    "ResourceAttributes": "Map(LowCardinality(String), String)",
    "ScopeName": "String",
    "ScopeVersion": "String",
    "SpanAttributes": "Map(LowCardinality(String), String)",
    "Duration": "UInt64",
    "StatusCode": "LowCardinality(String)",
    "StatusMessage": "String",
    "Events.Timestamp": "Array(DateTime64(9))",
    "Events.Name": "Array(LowCardinality(String))",
    "Events.Attributes": "Array(Map(LowCardinality(String), String))",
    "Links.TraceId": "Array(String)",
    "Links.SpanId": "Array(String)",
    "Links.TraceState": "Array(String)",
    "Links.Attributes": "Array(Map(LowCardinality(String), String))",
}
ASKED = (
    lambda questions: questions.funnel(["intake", "search", "confirm", "pay", "done"]),
    lambda questions: questions.journeys(),
    lambda questions: questions.step_stats(),
    lambda questions: questions.usage_by("model"),
)


def answered(questions):
    """Return the rows of each answer, floats without what depends on the order of a sum."""
    return [
        {name: round(value, 6) if isinstance(value, float) else value for name, value in row}
        for asked in ASKED
        for row in asked(questions)
    ]


def test_the_collector_makes_the_table_and_fills_it(program, tmp_path):
    with clickhouse.serving(tmp_path) as server:
        where = {"CLICKHOUSE": server.address, "CLICKHOUSE_COMPRESS": "none"}
        with servers.collector(tmp_path, "otlp-to-clickhouse.yaml", **where) as sending:
            agent = program(tmp_path, sending)
            agent.run("begin", "trip-1")
            agent.run("answer", "trip-1")
            agent.run("break", "trip-2")
        assert server.refused == []
        described = server.rows("DESCRIBE TABLE otel.otel_traces")
        assert {row[0]: row[1] for row in described} == COLUMNS
        found = server.rows(
            f"SELECT SpanId, TraceId, ParentSpanId, SpanAttributes['{semconv.ENGAGEMENT_ID}'],"
            f" SpanAttributes['{semconv.TURN_ID}'] FROM otel.otel_traces ORDER BY SpanId"
        )
        steps = server.rows(
            f"SELECT SpanAttributes['{semconv.STEP_PATH}'],"
            f" SpanAttributes['{semconv.STEP_STATUS}'], StatusCode, length(Links.SpanId)"
            " FROM otel.otel_traces WHERE startsWith(SpanName, 'step ') ORDER BY ALL"
        )
        [[tokens]] = server.rows(
            f"SELECT sum(toUInt64OrZero(SpanAttributes['{semconv.USAGE_TOTAL_TOKENS}']))"
            f" FROM otel.otel_traces WHERE mapContains(SpanAttributes, '{semconv.TURN_KIND}')"
        )
        with closing(open_engine(f"chdb://{tmp_path / 'chdb'}?database=otel")) as engine:
            told = answered(Questions(engine))
    with spanflow.connect(agent.ledger) as ledger:
        assert told == answered(ledger)
    rows = agent.rows(
        "SELECT span_id, trace_id, coalesce(parent_span_id, '') AS parent, engagement_id, turn_id"
        " FROM spans ORDER BY span_id"
    )
    assert found == [list(row.values()) for row in rows]
    assert steps == [
        ["breaks", "failed", "Error", 1],
        ["confirm", "completed", "Unset", 0],
        ["confirm", "waiting", "Unset", 1],
        ["done", "completed", "Unset", 1],
        ["intake", "completed", "Unset", 0],
        ["intake", "completed", "Unset", 0],
        ["pay", "completed", "Unset", 1],
        *[["quote", "completed", "Unset", 1]] * 3,
        ["reviews", "completed", "Unset", 1],
        ["search", "completed", "Unset", 4],
        ["search/judge", "completed", "Unset", 0],
    ]
    [spent] = agent.rows("SELECT sum(total_tokens) AS n FROM engagements")
    assert int(tokens) == spent["n"] > 0
