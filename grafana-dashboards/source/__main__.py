"""Write every dashboard as JSON into a folder: `python grafana-dashboards/source [FOLDER]`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import engagements
import health
import steps
import usage
from grafana_foundation_sdk.cog.encoder import JSONEncoder

DASHBOARDS = {
    "engagements": engagements,
    "steps": steps,
    "tokens-and-cost": usage,
    "health": health,
}


def main() -> None:
    """Write them beside this folder, or where the first argument says."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1]
    for name, module in DASHBOARDS.items():
        told = json.loads(JSONEncoder().encode(module.made().build()))
        _mend(told)
        text = json.dumps(told, indent=2, ensure_ascii=False) + "\n"
        (folder / f"{name}.json").write_text(text, encoding="utf-8")


def _mend(told: dict[str, Any]) -> None:
    """Give panels their numbers, as Grafana would, and take out what the SDK tells beyond need."""
    flat = [panel for row in told["panels"] for panel in (row, *(row.get("panels") or ()))]
    for number, panel in enumerate(flat, start=1):
        panel["id"] = number
        # Later versions of Grafana have it elsewhere, and ours are all empty.
        panel.get("options", {}).pop("footer", None)
    for variable in told["templating"]["list"]:
        # These are an interval's only.
        for key in ("auto", "auto_min", "auto_count"):
            variable.pop(key, None)


main()
