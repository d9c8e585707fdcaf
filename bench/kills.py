"""What `kill -9` costs: writers and ingesters of one ledger killed a thousand times."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any


def measure(kills: int, folder: Path) -> Any:
    """Kill that often, and return what was lost and doubled (see ``tests/kills.py``)."""
    tests = str(Path(__file__).parents[1] / "tests")
    if tests not in sys.path:
        sys.path.append(tests)
    return importlib.import_module("kills").run(folder / "kills.duckdb", kills)
