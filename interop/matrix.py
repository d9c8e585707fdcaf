"""Writes the tables of `docs/interop.md` from what the interop tests saw.

Usage: `python interop/matrix.py SEEN PAGE`, where SEEN is the folder in which the tests left what
they saw. Only what stands between the page's two marks is written anew.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

BEGIN, END = "<!-- written by `make interop` -->\n", "<!-- until here -->\n"
NUMBERS = {
    "input_tokens": "input",
    "output_tokens": "output",
    "cache_read_tokens": "cached",
    "reasoning_tokens": "reasoning",
    "cost_usd": "cost",
    "time_to_first_token_ms": "first token",
}


def tables(seen: list[dict[str, Any]]) -> str:
    """Say, for each environment, what was installed, who reported what, and what counted."""
    heads = ("beside us", "versions", "count", "model calls", "in a step", "tells", "does not tell")
    rows = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for each in sorted(
        seen, key=lambda one: (one["app"] == "provider_app.py", one["name"].lower())
    ):
        versions = ", ".join(f"{name} {version}" for name, version in each["versions"].items())
        for index, scope in enumerate(each["scopes"]):
            told = [word for number, word in NUMBERS.items() if scope[number]]
            untold = [word for number, word in NUMBERS.items() if not scope[number]]
            cells = [
                each["name"] if index == 0 else "",
                versions if index == 0 else "",
                # Of all together: which of two that know the same counts is the clock's decision.
                sum(one["counted"] for one in each["scopes"]) if index == 0 else "",
                f"{scope['calls']} by `{scope['scope']}`",
                scope["in_step"],
                ", ".join(told),
                ", ".join(untold),
            ]
            rows.append("| " + " | ".join(map(str, cells)) + " |")
    ours = {f"{name} {version}" for each in seen for name, version in each["ours"].items()}
    return "\n".join([*rows, "", f"Seen with {', '.join(sorted(ours))}.", ""])


def main(folder: Path, page: Path) -> None:
    """Write the tables into the page."""
    seen = [json.loads(path.read_text()) for path in folder.glob("*.json")]
    before, _, rest = page.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{BEGIN}\n{tables(seen)}\n{END}{after}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
