"""Every query in docs/backends.md is asked of the program it is for, and finds something."""

from __future__ import annotations

import re
import time

import pytest
from backends import clickhouse, reading, servers
from backends.conftest import SERVICE

pytestmark = [pytest.mark.backends, pytest.mark.timeout(600)]

PAGE = (servers.ROOT / "docs" / "backends.md").read_text(encoding="utf-8")
NEVER_THERE = "01a1fcd8-75d1-7472-b47b-dffe4b0877bb"


def _lines(kind):
    blocks = re.findall(rf"^```{kind}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    assert lines, f"no block `{kind}`"
    return lines


def _run(agent):
    agent.run("begin", "trip-1")
    agent.run("answer", "trip-1")
    agent.run("break", "trip-2")


@pytest.fixture(scope="module")
def everything(program, tmp_path_factory):
    """What Docker's Collector feeds: a Jaeger, a Tempo and a Prometheus that know one story."""
    folder = tmp_path_factory.mktemp("page")
    metrics = servers.free_address()
    scraped = servers.CONFIGURATION / "docker" / "prometheus.yaml"
    scraping = scraped.read_text().replace("collector:8889", metrics).replace("15s", "1s")
    with (
        servers.jaeger(folder) as jaeger,
        servers.tempo(folder) as tempo,
        servers.prometheus(folder, scraping) as prometheus,
        servers.collector(
            folder,
            "docker/collector.yaml",
            JAEGER=jaeger.otlp,
            TEMPO=tempo.otlp,
            METRICS=metrics,
            METRICS_EVERY="1s",
        ) as sending,
    ):
        began_s = time.time()
        agent = program(folder, {**sending, "OTEL_METRICS_EXPORTER": "otlp"})
        _run(agent)
        yield agent, reading.Jaeger(jaeger.query), reading.Tempo(tempo.query), prometheus, began_s


@pytest.mark.parametrize("line", _lines("text tags"))
def test_tags_for_jaeger(line, everything):
    agent, jaeger, *_ = everything
    key, value = line.split("=")
    if value == NEVER_THERE:
        [value] = [
            row["engagement_id"]
            for row in agent.rows("SELECT engagement_id FROM engagements WHERE turns = 2")
        ]
    asked = {key.replace(".", "__"): value}
    assert reading.within_patience(lambda: jaeger.traces(SERVICE, **asked), bool)


@pytest.mark.parametrize("line", _lines("traceql"))
def test_traceql(line, everything):
    _, _, tempo, *_ = everything
    assert reading.within_patience(lambda: tempo.search(line), bool)


@pytest.mark.parametrize("line", _lines("traceql metrics"))
def test_traceql_metrics(line, everything):
    *_, tempo, _, began_s = everything
    since_s = began_s - 5
    counted = reading.within_patience(lambda: tempo.counted(line, since_s), bool)
    assert sum(counted.values()) > 0


def test_traceql_counts_what_the_ledger_counts(everything):
    agent, _, tempo, _, began_s = everything
    steps = {
        r["name"]: r["n"] for r in agent.rows("SELECT name, count(*) AS n FROM steps GROUP BY name")
    }
    question = _lines("traceql metrics")[0]
    counted = reading.within_patience(
        lambda: tempo.counted(question, began_s - 5), lambda found: found == steps
    )
    assert counted == steps


@pytest.mark.parametrize("line", _lines("promql"))
def test_promql(line, everything):
    prometheus = everything[3]

    def ask():
        return reading.get(prometheus, "/api/v1/query", query=line)["data"]["result"]

    assert reading.within_patience(ask, bool)


@pytest.mark.parametrize("line", _lines("sql clickhouse"))
def test_sql_for_clickhouse(line, program, tmp_path):
    with clickhouse.serving(tmp_path) as server:
        where = {"CLICKHOUSE": server.address, "CLICKHOUSE_COMPRESS": "none"}
        with servers.collector(tmp_path, "otlp-to-clickhouse.yaml", **where) as sending:
            _run(program(tmp_path, sending))
        assert dict(server.rows(line)) == {"paused": 1, "completed": 1, "failed": 1}


def test_every_variable_of_a_configuration_is_told():
    for file in servers.CONFIGURATION.glob("*.yaml"):
        if file.name in ("builder.yaml", "docker-compose.yaml"):
            continue
        names = set(re.findall(r"\$\{env:(\w+)", file.read_text())) - {"OTLP_GRPC", "OTLP_HTTP"}
        [row] = [line for line in PAGE.splitlines() if line.startswith(f"| `{file.name}`")]
        assert set(re.findall(r"`(\w+)`", row.split("|")[3])) == names, file.name


def test_the_compose_file_mounts_what_is_there():
    import yaml

    told = yaml.safe_load((servers.CONFIGURATION / "docker-compose.yaml").read_text())
    mounts = [v for s in told["services"].values() for v in s.get("volumes", ())]
    ours = [mount.split(":")[0] for mount in mounts if mount.startswith("./docker")]
    assert len(ours) == 5
    for path in ours:
        assert (servers.CONFIGURATION / path).is_file()
    built = yaml.safe_load((servers.CONFIGURATION / "builder.yaml").read_text())
    assert told["services"]["collector"]["image"].endswith(f":{built['dist']['version']}")
    for file in (servers.CONFIGURATION / "docker" / "grafana").glob("*.yaml"):
        assert yaml.safe_load(file.read_text())["apiVersion"] == 1
