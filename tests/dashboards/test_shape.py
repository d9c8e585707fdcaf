"""The dashboards are what their source says, and are put together as a person would want them."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import groupby
from urllib.parse import parse_qs, urlparse

import pytest
from dashboards import grafana

SOURCES = {
    "prometheus": "${prometheus}",
    "tempo": "${tempo}",
    "motherduck-duckdb-datasource": "${ledger}",
    "grafana-clickhouse-datasource": "${clickhouse}",
}
every_dashboard = pytest.mark.parametrize("name", grafana.NAMES)
every_panel = pytest.mark.parametrize(
    ("name", "panel"),
    [(name, panel) for name in grafana.NAMES for panel in grafana.panels(name)],
    ids=lambda value: value if isinstance(value, str) else value["title"].replace(" ", "-"),
)


def test_the_committed_files_are_what_the_source_writes(tmp_path):
    """After a change: `make dashboards`."""
    subprocess.run([sys.executable, grafana.FOLDER / "source", tmp_path], check=True, timeout=240)
    written = {path.name: path.read_text(encoding="utf-8") for path in tmp_path.iterdir()}
    committed = {p.name: p.read_text(encoding="utf-8") for p in grafana.FOLDER.glob("*.json")}
    assert sorted(written) == sorted(committed) == [f"{name}.json" for name in grafana.NAMES]
    assert written == committed


@every_dashboard
def test_a_dashboard_can_be_found_and_leads_to_the_others(name):
    told = grafana.dashboard(name)
    assert told["uid"].startswith("spanflow-")
    assert told["title"].startswith("spanflow / ")
    assert told["description"]
    assert told["tags"] == ["spanflow"]
    assert told["time"]["to"] == "now"
    [link] = told["links"]
    assert (link["type"], link["tags"]) == ("dashboards", ["spanflow"])
    assert told.get("id") is None  # Grafana gives its own


@every_dashboard
def test_every_variable_that_is_used_can_be_chosen(name):
    offered = grafana.variables(name)
    used = {
        variable
        for match in grafana.VARIABLE.finditer(json.dumps(grafana.dashboard(name)["panels"]))
        for variable in [match[1] or match[3]]
        if not variable.startswith("__") and variable not in {"n", "s", "m"}
    }
    assert used == offered.keys()
    for variable in offered.values():
        assert variable["label"]
        if variable["type"] == "datasource":
            assert variable["query"] in SOURCES


@every_panel
def test_a_panel_says_what_it_shows(name, panel):
    assert panel["title"]
    assert panel["description"].endswith(".")
    assert panel["targets"]
    references = [target["refId"] for target in panel["targets"]]
    assert len(set(references)) == len(references)
    for target in panel["targets"]:
        assert target["datasource"] == panel["datasource"]
        assert SOURCES[target["datasource"]["type"]] == target["datasource"]["uid"]


@every_panel
def test_a_panel_that_draws_has_a_unit_and_a_legend(name, panel):
    if panel["type"] == "table":
        return
    assert panel["fieldConfig"]["defaults"]["unit"]
    if panel["type"] == "timeseries":
        assert panel["options"]["legend"]["showLegend"] is True
        named = panel["fieldConfig"]["defaults"].get("displayName")
        for target in panel["targets"]:
            by_query = "{{" in target.get("legendFormat", "")
            by_column = target.get("format") == 0 or "by (" in target.get("query", "")
            assert by_query or named or by_column


@every_dashboard
def test_panels_fill_the_page_and_stand_in_lines(name):
    """No holes: panels of one line are equally high and are 24 wide together."""
    top = grafana.dashboard(name)["panels"]
    folded = [row["panels"] for row in top if row.get("panels")]
    for shown in (top, *folded):
        assert [panel["id"] for panel in shown]
        lines = groupby(shown, key=lambda panel: panel["gridPos"]["y"])
        for _, line in lines:
            places = [panel["gridPos"] for panel in line]
            assert sum(place["w"] for place in places) == 24, places
            assert len({place["h"] for place in places}) == 1, places
            left = 0
            for place in places:
                assert place["x"] == left
                left += place["w"]
    ids = [panel["id"] for panel in (*top, *(panel for row in folded for panel in row))]
    assert len(set(ids)) == len(ids)


def test_ids_of_engagements_lead_to_their_traces():
    found = 0
    for name in grafana.NAMES:
        for panel in grafana.panels(name):
            for column, told in grafana.overrides(panel["fieldConfig"]):
                if told["id"] != "links":
                    assert not (column.endswith("engagement_id") and panel["type"] != "table")
                    continue
                found += 1
                [link] = told["value"]
                address = urlparse(
                    grafana.filled(
                        link["url"],
                        {"tempo": "uid-1", "__from": "1", "__to": "2", "__value.raw": "e-1"},
                        "raw",
                    )
                )
                [pane] = json.loads(parse_qs(address.query)["panes"][0]).values()
                assert address.path == "/explore"
                assert pane["datasource"] == pane["queries"][0]["datasource"]["uid"] == "uid-1"
                assert pane["queries"][0]["query"] == (
                    '{ span.spanflow.engagement.id = "${__value.raw}" }'
                )
                assert pane["range"] == {"from": "1", "to": "2"}
    assert found >= 6


def test_every_panel_and_every_alert_is_described():
    text = (grafana.ROOT / "docs" / "dashboards.md").read_text(encoding="utf-8")
    for name in grafana.NAMES:
        heading = grafana.dashboard(name)["title"].removeprefix("spanflow / ")
        [section] = [part for part in text.split("\n## ") if part.startswith(f"{heading}\n")]
        rows = [line.split(" | ") for line in section.splitlines() if line.startswith("| ")][1:]
        kinds = {
            title.strip("| "): kind.strip() for titles, kind, *_ in rows for title in _split(titles)
        }
        assert kinds == {
            panel["title"]: KINDS[panel["datasource"]["type"]] for panel in grafana.panels(name)
        }
    rules = (grafana.FOLDER / "alerts.yaml").read_text(encoding="utf-8")
    alerts = [line.split()[-1] for line in rules.splitlines() if "- alert: " in line]
    assert len(alerts) >= 4
    assert [a for a in alerts if f"| `{a}` |" not in text] == []


KINDS = {
    "prometheus": "Metrics",
    "tempo": "Traces",
    "motherduck-duckdb-datasource": "Ledger",
    "grafana-clickhouse-datasource": "ClickHouse",
}
COMMAS = {"Tokens that were spent again, by step", "The ledger, since it began"}


def _split(titles):
    """Titles that stand in one line of the documentation."""
    titles = titles.strip("| ")
    return [titles] if titles in COMMAS else titles.split(", ")
