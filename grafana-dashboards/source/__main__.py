"""Write every dashboard as JSON into a folder: `python grafana-dashboards/source [FOLDER]`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

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
        _number(told["panels"])
        text = json.dumps(told, indent=2, ensure_ascii=False) + "\n"
        (folder / f"{name}.json").write_text(text, encoding="utf-8")


def _number(panels: list[dict[str, object]]) -> None:
    """Give every panel an id, rows and those folded into them included, as Grafana would."""
    flat = [panel for row in panels for panel in (row, *(row.get("panels") or ()))]  # type: ignore[misc]
    for number, panel in enumerate(flat, start=1):
        panel["id"] = number  # type: ignore[index]


main()
