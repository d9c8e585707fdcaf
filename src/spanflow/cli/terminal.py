"""How things look in a terminal: colours, units, and names that cannot break the screen.

It formats and prints; what is shown is decided by the commands.
"""

from __future__ import annotations

import json
import sys
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spanflow.query.units import UNKNOWN, cost, count, duration, plain, short_id

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

__all__ = [
    "DEFAULT_LEDGER",
    "UNKNOWN",
    "JsonOption",
    "LedgerOption",
    "console",
    "cost",
    "count",
    "duration",
    "ledger_path",
    "plain",
    "print_json",
    "print_json_line",
    "short_id",
    "status_text",
    "table",
    "text",
    "when",
]

DEFAULT_LEDGER = Path("traces.duckdb")
"""Where a ledger is written, and looked for, when none was named."""

LedgerOption = Annotated[
    Path | None,
    typer.Option(
        "--ledger",
        envvar="SPANFLOW_LEDGER",
        show_default=str(DEFAULT_LEDGER),
        help="Path of the ledger.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]

_STYLES = {
    "abandoned": "yellow",
    "active": "cyan",
    "cancelled": "yellow",
    "completed": "green",
    "error": "bold red",
    "failed": "bold red",
    "interrupted": "red",
    "left": "yellow",
    "ok": "green",
    "paused": "magenta",
    "running": "cyan",
    "waiting": "magenta",
}


def ledger_path(given: Path | None) -> Path:
    """Return the ledger meant: the one given, else the default in the current folder."""
    # An empty variable is how a shell says that there is none; it would arrive here as the current
    # folder.
    return DEFAULT_LEDGER if given is None or given == Path() else given


def console() -> Console:
    """Return a console that colours nothing by guessing."""
    from rich.console import Console

    return Console(highlight=False, markup=False, emoji=False)


def table(*columns: str, right: Iterable[str] = (), cut: str = "") -> Table:
    """Return an empty table without lines.

    Args:
        columns: The columns' names.
        right: Those that hold numbers.
        cut: The one that gives way where the terminal is narrow.
    """
    from rich.table import Table

    numbers = frozenset(right)
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in columns:
        made.add_column(
            name,
            justify="right" if name in numbers else "left",
            no_wrap=name != cut,
            overflow="ellipsis",
        )
    return made


def text(value: object, style: str = "") -> Text:
    """Return a value as text that a table or a tree can hold; None is shown as a dash."""
    from rich.text import Text

    if value is None:
        return Text(UNKNOWN, style="dim")
    return Text(plain(value), style=style, no_wrap=True, overflow="ellipsis")


def status_text(status: str | None) -> Text:
    """Return a status in its colour."""
    return text(status, _STYLES.get(status or "", ""))


def when(moment: datetime | None) -> str:
    """Return a time (UTC) to the minute."""
    return UNKNOWN if moment is None else f"{moment:%m-%d %H:%M}"


def print_json(value: Any) -> None:
    """Print a value as JSON; times become ISO 8601 in UTC, what JSON does not know becomes text."""
    sys.stdout.write(json.dumps(_plain_json(value), indent=2, ensure_ascii=False) + "\n")


def print_json_line(value: Any) -> None:
    """Print a value as one line of JSON, at once; for what comes bit by bit."""
    sys.stdout.write(json.dumps(_plain_json(value), ensure_ascii=False) + "\n")
    sys.stdout.flush()


def _plain_json(value: Any) -> Any:
    # NaN and the infinities are no JSON: they are read back as null.
    return json.loads(json.dumps(value, default=_as_json), parse_constant=lambda _: None)


def _as_json(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    return float(value) if isinstance(value, Decimal) else str(value)
