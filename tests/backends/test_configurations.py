"""The shipped Collector configurations do what they say, with real programs on both sides."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
from backends import reading, servers
from backends.conftest import ALIKE, SERVICE
from backends.sending import send_turn, tracing

from spanflow import semconv

pytestmark = [pytest.mark.backends, pytest.mark.timeout(600)]

BIN = Path(sys.executable).parent
CONFIGURATIONS = [
    *sorted(
        path.relative_to(servers.CONFIGURATION).as_posix()
        for path in servers.CONFIGURATION.glob("*.yaml")
        if path.name not in ("builder.yaml", "docker-compose.yaml")
    ),
    "docker/collector.yaml",
]
ALL_TURNS = "SELECT name, outcome, count(*) AS n FROM turns GROUP BY ALL"
ALL_STEPS = "SELECT path, status, count(*) AS n FROM steps GROUP BY ALL"
ALL_CALLS = "SELECT model, count(*) AS n FROM llm_calls WHERE counted GROUP BY ALL"


def _program_runs(agent, **more):
    agent.run("begin", "trip-1", **more)
    agent.run("answer", "trip-1", **more)
    agent.run("break", "trip-2", **more)


@pytest.mark.parametrize("configuration", CONFIGURATIONS)
def test_the_collector_takes_it_and_starts(configuration, tmp_path):
    done = subprocess.run(
        [
            *(servers.program("otelcol-spanflow"), "validate"),
            *("--config", servers.CONFIGURATION / configuration),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    if configuration == "otlp-to-clickhouse.yaml":
        return  # starts only where there is a ClickHouse: see test_clickhouse
    where = {"METRICS": servers.free_address(), "SPANS_FILE": str(tmp_path / "spans.json")}
    with servers.collector(tmp_path, configuration, **where):
        pass


def test_personal_data_is_gone_and_ids_are_not(program, tmp_path):
    digits = "1234567890123456"
    with servers.jaeger(tmp_path) as jaeger:
        with servers.collector(tmp_path, "redaction.yaml", BACKEND=jaeger.otlp) as sending:
            with tracing(sending, "others") as tracer:
                send_turn(tracer, spanflow__engagement__id=digits, spanflow__turn__id=digits)
                span = tracer.start_span(
                    "mail ada@example.com about 4111 1111 1111 1111",
                    attributes={
                        "user.id": "ada@example.com",
                        "http.url": "/find?mail=ada@example.com&n=3",
                        "card": "pay with 4111-1111-1111-1111 today",
                        "phone": "+44 20 7946 0958",
                        "net.peer.ip": "10.1.2.3",
                        "key": "sk-abcdefghijklmnop1234",
                        "many": ["one", "bob@example.org"],
                        "number": 12,
                        "share": 0.1234567890123456,
                        "places": ["Gion", "Uji"],
                        "plain": "two nights, up to 12000 yen",
                    },
                )
                span.add_event("said", {"text": "write to bob@example.org"})
                span.record_exception(ValueError("bob@example.org is unknown"))
                span.end()
            agent = program(tmp_path, sending)
            _program_runs(agent)
        ours = reading.Jaeger(jaeger.query)
        written = json.dumps(reading.get(jaeger.query, "/api/traces", service="others"))
        others = [span for trace in ours.traces("others") for span in trace]
        assert len(ours.traces(SERVICE, spanflow__engagement__id=_engagement(agent))) == 2
        spans = [span for trace in ours.traces(SERVICE) for span in trace]
    for secret in ("example.com", "example.org", "4111", "7946", "10.1.2.3", "sk-abc"):
        assert secret not in written
    [mail] = [span for span in others if span.name.startswith("mail")]
    assert mail.name == "mail **** about ****"
    assert mail.attributes["http.url"] == "/find?mail=****&n=3"
    assert mail.attributes["card"] == "pay with **** today"
    assert mail.attributes["plain"] == "two nights, up to 12000 yen"
    assert (mail.attributes["number"], mail.attributes["share"]) == (12, 0.1234567890123456)
    assert (mail.attributes["many"], mail.attributes["places"]) == (
        ["one", "****"],
        ["Gion", "Uji"],
    )
    assert mail.attributes["user.id"] == hashlib.sha256(b"ada@example.com").hexdigest()
    [turn] = [span for span in others if span.name.startswith("invoke_workflow")]
    assert turn.attributes[semconv.ENGAGEMENT_ID] == turn.attributes[semconv.TURN_ID] == digits
    # Ours: every id as the ledger has it, and the user's name nowhere.
    rows = agent.rows("SELECT span_id, engagement_id, turn_id, step_id FROM spans")
    told = {
        (
            span.span_id,
            span.attributes[semconv.ENGAGEMENT_ID],
            span.attributes[semconv.TURN_ID],
            span.attributes.get(semconv.STEP_ID),
        )
        for span in spans
    }
    assert {tuple(row.values()) for row in rows} == told
    assert not [span for span in spans if "ada" in span.attributes.values()]


def _engagement(agent):
    [row] = agent.rows("SELECT engagement_id FROM engagements WHERE conversation_id = 'trip-1'")
    return row["engagement_id"]


def test_metrics_of_spans_count_what_the_ledger_counts(program, tmp_path):
    metrics = servers.free_address()
    scraping = {
        "global": {"scrape_interval": "1s"},
        "scrape_configs": [{"job_name": "c", "static_configs": [{"targets": [metrics]}]}],
    }
    with (
        servers.jaeger(tmp_path) as jaeger,
        servers.prometheus(tmp_path, json.dumps(scraping)) as p,
    ):
        where = {"BACKEND": jaeger.otlp, "METRICS": metrics, "METRICS_EVERY": "1s"}
        with servers.collector(tmp_path, "span-metrics.yaml", **where) as sending:
            with tracing(sending, "others") as tracer:
                send_turn(tracer, http__route="/")
            agent = program(tmp_path, sending)
            _program_runs(agent, OTEL_METRICS_EXPORTER="otlp")
            turns = {(r["name"], r["outcome"]): r["n"] for r in agent.rows(ALL_TURNS)}
            steps = {(r["path"], r["status"]): r["n"] for r in agent.rows(ALL_STEPS)}
            calls = {(r["model"],): r["n"] for r in agent.rows(ALL_CALLS)}

            def ask(question):
                answer = reading.get(p, "/api/v1/query", query=question)["data"]["result"]
                return {tuple(a["metric"].values()): int(float(a["value"][1])) for a in answer}

            def soon(question, expected):
                found = reading.within_patience(lambda: ask(question), lambda a: a == expected)
                assert found == expected

            total = "traces_span_metrics_calls_total"
            outcomes = "spanflow_engagement_name, spanflow_turn_outcome"
            soon(f'sum by ({outcomes}) ({total}{{spanflow_turn_kind!=""}})', turns)
            paths = "spanflow_step_path, spanflow_step_status"
            soon(f'sum by ({paths}) ({total}{{spanflow_step_path!=""}})', steps)
            chats = f'{total}{{gen_ai_operation_name="chat"}}'
            soon(f"sum by (gen_ai_response_model) ({chats})", calls)
            soon(f"sum by ({outcomes}) (spanflow_turns_total)", turns)
            count = "traces_span_metrics_duration_seconds_count"
            soon(f'sum by ({paths}) ({count}{{spanflow_step_path!=""}})', steps)
            assert ask(f'{total}{{service_name="others"}}') == {}
        assert len(reading.Jaeger(jaeger.query).traces(SERVICE)) == 3


def test_files_of_a_collector_become_the_same_ledger(program, tmp_path):
    incoming = tmp_path / "incoming"
    incoming.mkdir()
    file = tmp_path / "spans.json"
    where = {"SPANS_FILE": str(file), "FILES": str(incoming / "*.json")}
    with servers.collector(tmp_path, "file-to-ledger.yaml", **where) as sending:
        agent = program(tmp_path, sending)
        _program_runs(agent)
        expected = len(agent.rows("SELECT span_id FROM spans"))
        spans = reading.within_patience(
            lambda: list(reading.from_file(file)), lambda spans: len(spans) >= expected
        )
        assert len(spans) == expected
    again = tmp_path / "again.json"
    (incoming / "from-elsewhere.json").write_bytes(file.read_bytes())
    where["SPANS_FILE"] = str(again)
    with servers.collector(tmp_path, "file-to-ledger.yaml", **where):
        spans = reading.within_patience(
            lambda: list(reading.from_file(again)), lambda spans: len(spans) >= expected
        )
        assert len(spans) == expected
    for name, source in (("one", file), ("two", again)):
        ledger = tmp_path / f"{name}.duckdb"
        subprocess.run(
            [BIN / "spanflow", "ingest", source, "--ledger", ledger], check=True, timeout=240
        )
        for view, columns in ALIKE.items():
            query = f"SELECT {columns} FROM {view} ORDER BY ALL"
            asked = [BIN / "spanflow", "sql", query, "--ledger", ledger, "--json"]
            told = subprocess.run(asked, check=True, capture_output=True, text=True, timeout=240)
            assert json.loads(told.stdout) == agent.rows(query), (name, view)
