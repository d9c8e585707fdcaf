"""Every query of Prometheus and Tempo, asked of the real ones after a day of the demo."""

from __future__ import annotations

import re
import subprocess
from collections import defaultdict

import pytest
import yaml
from backends import dashed, servers
from dashboards import grafana

pytestmark = [pytest.mark.backends, pytest.mark.timeout(600)]

RULES = grafana.FOLDER / "alerts.yaml"
SPAN_METRICS = "traces_span_metrics_"
_LABEL = re.compile(r"\{\{(\w+)\}\}")


@pytest.fixture(scope="module")
def collected(tmp_path_factory):
    with dashed.through_a_collector(tmp_path_factory.mktemp("collected")) as recorded:
        yield recorded


@pytest.fixture(scope="module")
def pushed(tmp_path_factory):
    with dashed.pushed(tmp_path_factory.mktemp("pushed")) as recorded:
        yield recorded


def _expression(query, recorded, engagement=grafana.ALL, step=grafana.ALL):
    chosen = {
        "engagement": engagement,
        "step": step,
        "__range": f"{recorded.ended - recorded.began + 5}s",
        "__interval": f"{dashed.STEP_S}s",
    }
    return grafana.filled(query.target["expr"], chosen, "prometheus")


def _shown(query, recorded, **chosen):
    """What the panel shows, by legend: one number, or those over time."""
    expression = _expression(query, recorded, **chosen)
    if query.target.get("instant"):
        found = [(one["metric"], [one["value"][1]]) for one in recorded.instant(expression)]
    else:
        found = [
            (one["metric"], [value for _, value in one["values"]])
            for one in recorded.series(expression)
        ]
    told = {}
    for labels, values in found:
        numbers = [float(value) for value in values if value != "NaN"]
        if numbers:
            legend = _LABEL.sub(lambda m, have=labels: have[m[1]], query.target["legendFormat"])
            assert legend not in told, f"two series are called {legend}"
            told[legend] = numbers
    return told


def _by_title(recorded, **chosen):
    shown = defaultdict(dict)
    for query in grafana.queries("prometheus"):
        if SPAN_METRICS in query.target["expr"] and not recorded.tempo:
            continue  # made by a Collector
        for legend, numbers in _shown(query, recorded, **chosen).items():
            shown[query.title][legend] = numbers
    return shown


# What the bars of a panel add up to, or its numbers are, and the same asked of the ledger.
TURNS = "FROM turns WHERE ended_at IS NOT NULL"
CALLS = "FROM llm_calls WHERE counted"
BARS = {
    "Turns by outcome": f"SELECT outcome AS k, count(*) AS n {TURNS} GROUP BY 1",
    "Executions by status": "SELECT status AS k, count(*) AS n FROM steps GROUP BY 1",
    "Failed executions by step": (
        "SELECT path AS k, count(*) AS n FROM steps WHERE status = 'failed' GROUP BY 1"
    ),
    "Tokens by model": f"SELECT model AS k, sum(total_tokens) AS n {CALLS} GROUP BY 1",
    "Input and output tokens": (
        f"SELECT 'input' AS k, sum(input_tokens) AS n {CALLS}"
        f" UNION ALL SELECT 'output', sum(output_tokens) {CALLS}"
    ),
    "Reported cost by model": (
        f"SELECT model AS k, sum(cost_usd) AS n {CALLS} AND cost_reported GROUP BY 1"
    ),
    "Lost records": "SELECT 'research' AS k, 3 AS n",
    "Step spans by step": "SELECT path AS k, count(*) AS n FROM steps GROUP BY 1",
}
NUMBERS = {
    "Pauses and resumptions in this range": (
        f"SELECT 'paused' AS k, count(*) AS n {TURNS} AND outcome = 'paused'"
        f" UNION ALL SELECT 'resumed', count(*) {TURNS} AND kind = 'resume'"
    ),
    "Executions in this range": (
        "SELECT 'all' AS k, count(*) AS n FROM steps"
        " UNION ALL SELECT 'failed', count(*) FROM steps WHERE status = 'failed'"
    ),
    "Reported in this range": (
        f"SELECT 'tokens' AS k, sum(total_tokens) AS n {CALLS}"
        f" UNION ALL SELECT 'cost', sum(cost_usd) {CALLS} AND cost_reported"
        f" UNION ALL SELECT 'each', sum(cost_usd) / (SELECT count(*) FROM engagements)"
        f" {CALLS} AND cost_reported"
    ),
    "Processes that capture": (
        "SELECT 'errors' AS k, 2 AS n UNION ALL SELECT 'lost', 3"
        " UNION ALL SELECT 'lag', 0 UNION ALL SELECT 'processes', 2"
    ),
}


@pytest.mark.parametrize("way", ["collected", "pushed"])
def test_prometheus_shows_what_the_ledger_says(way, request):
    recorded = request.getfixturevalue(way)
    shown = _by_title(recorded)
    asked = {query.title for query in grafana.queries("prometheus")}
    if not recorded.tempo:
        asked = {title for title in asked if "spans" not in title}
    assert shown.keys() == asked, "a panel without data"
    for title, question in (BARS | NUMBERS).items():
        if title not in asked:
            continue
        expected = {row["k"]: row["n"] for row in recorded.rows(question) if row["n"]}
        found = {legend: sum(numbers) for legend, numbers in shown[title].items()}
        found = {legend: number for legend, number in found.items() if number}
        assert found == pytest.approx(expected), title
    paths = {row["path"] for row in recorded.rows("SELECT DISTINCT path FROM steps")}
    for title in ("Median duration", "95th percentile of duration"):
        assert shown[title].keys() == paths
        assert all(0 < number <= 60 for numbers in shown[title].values() for number in numbers)
    answers = shown["How long answers take"]
    names = ("booking", "research")
    assert answers.keys() == {f"{p} {name}" for p in ("p50", "p95") for name in names}
    assert all(0 < number <= 60 for numbers in answers.values() for number in numbers)
    assert shown["Errors by place"].keys() == {"app.noticed", "journal.segment_gone"}
    assert shown["Journal lag"].keys() == {"booking", "research"}


def test_a_chosen_engagement_is_shown_alone(collected):
    shown = _by_title(collected, engagement="research")
    turns = collected.rows(
        f"SELECT outcome AS k, count(*) AS n {TURNS} AND name = 'research' GROUP BY 1"
    )
    found = {legend: sum(numbers) for legend, numbers in shown["Turns by outcome"].items()}
    assert (
        found == {row["k"]: row["n"] for row in turns} == {"completed": 2, "paused": 3, "failed": 1}
    )
    assert shown["Pauses and resumptions in this range"] == {"paused": [3], "resumed": [3]}


@pytest.mark.parametrize("step", ["search/think", "it's (not) a \\ [step]"])
def test_a_chosen_step_is_shown_alone(step, collected):
    shown = _by_title(collected, step=step)
    expected = collected.one(f"SELECT count(*) FROM steps WHERE path = $${step}$$")
    bars = shown["Executions by status"]
    assert sum(sum(numbers) for numbers in bars.values()) == expected
    assert shown["Median duration"].keys() == ({step} if expected else set())


tempo_queries = pytest.mark.parametrize(
    "query", grafana.queries("tempo"), ids=lambda query: query.id
)


@tempo_queries
@pytest.mark.parametrize("step", [grafana.ALL, "report", "it's (not) a \\ [step] of search/think"])
def test_tempo_answers(query, step, collected):
    chosen = {"engagement": grafana.ALL, "step": step}
    asked = grafana.filled(query.target["query"], chosen, "raw")
    assert "$" not in asked
    now = {"start": collected.began - 60, "end": collected.ended + 60}
    found = []

    def answered():
        if query.panel["type"] == "table":
            told = dashed.get(collected.tempo, "/api/search", q=asked, limit=200, spss=100, **now)
            found[:] = told["traces"]
        else:
            path = "/api/metrics/query_range"
            told = dashed.get(collected.tempo, path, q=asked, step="5s", **now)
            found[:] = [one for one in told["series"] if any(_values(one))]
        return found

    if step not in {grafana.ALL, "report"} and "step" in query.target["query"]:
        answered()  # nothing, and no complaint
        assert found == []
        return
    dashed.until(answered, query.title)
    if query.panel["type"] == "table":
        assert _selected(asked) <= {
            attribute["key"]
            for trace in found
            for spans in trace["spanSets"]
            for span in spans["spans"]
            for attribute in span.get("attributes", ())
        } | {"spanflow.turn.dropped_at"}
    else:
        assert found
        assert all(label["value"] for one in found for label in one["labels"])


def _values(series):
    return [sample.get("value", 0) for sample in series["samples"]]


def _selected(query):
    [selected] = re.findall(r"select\((.*)\)", query)
    return {name.strip().removeprefix("span.") for name in selected.split(",")}


def test_tempo_has_the_turns_that_did_not_end_well(collected):
    asked = '{ span.spanflow.turn.outcome =~ "failed|cancelled|left" }'
    expected = collected.one(
        "SELECT count(*) FROM turns WHERE outcome IN ('failed', 'cancelled', 'left')"
    )
    now = {"start": collected.began - 60, "end": collected.ended + 60}
    dashed.until(
        lambda: (
            len(dashed.get(collected.tempo, "/api/search", q=asked, limit=500, **now)["traces"])
            == expected
        ),
        f"{expected} turns in Tempo",
    )


def test_prometheus_takes_the_alert_rules():
    promtool = servers.program("promtool")
    for command in (
        ["check", "rules", RULES],
        ["test", "rules", grafana.ROOT / "tests" / "backends" / "alerts_test.yaml"],
    ):
        done = subprocess.run(
            [promtool, *command], capture_output=True, text=True, timeout=240, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_every_metric_of_the_alerts_is_one_that_capture_emits(pushed):
    """A rule on a name that nobody writes would never fire."""
    text = re.sub(r"#.*", "", RULES.read_text(encoding="utf-8"))
    used = set(re.findall(r"\b(spanflow_\w+?)(?=[\[{)\s]|$)", text))
    metrics = {name for name in used if name.endswith(("_total", "_bucket", "_seconds"))}
    assert len(metrics) >= 5
    known = dashed.get(pushed.prometheus, "/api/v1/label/__name__/values")["data"]
    assert metrics <= set(known)
    labels = dashed.get(pushed.prometheus, "/api/v1/labels")["data"]
    assert used - metrics <= set(labels)


def test_what_the_rules_record_is_what_the_ledger_says(pushed):
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    told = {rule["record"]: rule["expr"] for rule in groups[0]["rules"] if "record" in rule}
    begun = pushed.instant(told["spanflow:engagements_begun:6h"])
    assert {one["metric"]["spanflow_engagement_name"]: float(one["value"][1]) for one in begun} == {
        row["name"]: row["n"]
        for row in pushed.rows("SELECT name, count(*) AS n FROM engagements GROUP BY name")
    }
    resumed = pushed.instant(told["spanflow:resumptions:6h"])
    assert sum(float(one["value"][1]) for one in resumed) == pushed.one(
        "SELECT count(*) FROM turns WHERE kind = 'resume'"
    )
    [cost] = pushed.instant(told["spanflow:cost_usd:6h"])
    assert float(cost["value"][1]) == pytest.approx(
        pushed.one("SELECT sum(cost_usd) FROM llm_calls WHERE counted AND cost_reported")
    )
