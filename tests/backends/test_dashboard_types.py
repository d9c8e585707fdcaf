"""The JSON of the dashboards is what Grafana's own types say it must be."""

from __future__ import annotations

import copy
import json

import pytest
from backends import grafana_types, servers
from dashboards import grafana

pytestmark = [pytest.mark.backends, pytest.mark.timeout(600)]

PANELS = {
    "barchart": "BarChart",
    "nodegraph": "NodeGraph",
    "stat": "Stat",
    "table": "Table",
    "timeseries": "TimeSeries",
}
WITHOUT_FIELDS = {"nodegraph", "stat"}
BEGIN = """
import type { Dashboard } from '@grafana/schema';
// JSON has the values of enumerations, not their names.
type Plain<T> =
  T extends string ? `${T}` :
  T extends number ? (`${T}` extends `${infer N extends number}` ? N : number) :
  T extends (infer U)[] ? Plain<U>[] :
  T extends object ? { [K in keyof T]: Plain<T[K]> } : T;
"""


def _program(told):
    """A program that compiles if a dashboard and each of its panels are what they must be."""
    lines = [BEGIN]
    for kind, name in PANELS.items():
        place = f"{kind}/panelcfg/x/{name}PanelCfg_types.gen"
        lines.append(
            f"import type * as {kind} from '@grafana/schema/dist/esm/raw/composable/{place}';"
        )
    lines.append(f"export const dashboard: Plain<Dashboard> = {json.dumps(told, indent=1)};")
    flat = [panel for row in told["panels"] for panel in (row, *(row.get("panels") or ()))]
    for panel in flat:
        kind, number = panel["type"].lower(), panel["id"]
        if kind == "row":
            continue
        assert kind in PANELS
        options = json.dumps(panel["options"])
        lines.append(f"export const options{number}: Plain<{kind}.Options> = {options};")
        if kind not in WITHOUT_FIELDS:
            fields = json.dumps(panel["fieldConfig"]["defaults"].get("custom", {}))
            lines.append(
                f"export const fields{number}: Plain<Partial<{kind}.FieldConfig>> = {fields};"
            )
    return "\n".join(lines)


def _complaints(told, folder):
    program = folder / "dashboard.ts"
    program.write_text(_program(told), encoding="utf-8")
    return grafana_types.checked(program, servers.CACHE / grafana_types.NAME)


@pytest.mark.parametrize("name", grafana.NAMES)
def test_a_dashboard_has_grafanas_types(name, tmp_path):
    assert _complaints(grafana.dashboard(name), tmp_path) == ""


def _misspell(told):
    told["panels"][1]["fieldConfig"]["defaults"]["color"]["mode"] = "rainbow"


def _forget(told):
    del told["panels"][1]["options"]["reduceOptions"]


def _make_up(told):
    told["templating"]["list"][0]["colour"] = "green"


@pytest.mark.parametrize("wrong", [_misspell, _forget, _make_up])
def test_what_is_wrong_is_seen(wrong, tmp_path):
    told = copy.deepcopy(grafana.dashboard("health"))
    wrong(told)
    assert "dashboard.ts" in _complaints(told, tmp_path)
