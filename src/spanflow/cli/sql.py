"""`spanflow sql`: any question to the ledger's views, as a table or as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from spanflow.cli import terminal
from spanflow.cli.terminal import JsonOption, LedgerOption

if TYPE_CHECKING:
    from rich.console import RenderableType

    from spanflow.query.journeys import Result

__all__ = ["ask"]


def ask(
    query: Annotated[str, typer.Argument(help="One SQL statement in DuckDB's dialect.")],
    ledger: LedgerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ask the ledger anything; it cannot be changed this way.

    Views: engagements, turns, steps, llm_calls, tool_calls, events, waits, transitions, graphs,
    spans, usage_conflicts, diagnostics. It reaches no other file and no network.

    Example: [bold]spanflow sql "SELECT status, count(*) FROM engagements GROUP BY ALL"[/bold]
    """
    from spanflow.query.journeys import connect

    with connect(terminal.ledger_path(ledger)) as opened:
        result = opened.sql(query)
    if as_json:
        terminal.print_json(list(result))
        return
    console = terminal.console()
    table = _as_table(result)
    fits = console.measure(table, options=console.options.update(width=10_000)).maximum
    console.print(table if fits <= console.width else _as_blocks(result))
    console.print(terminal.text(f"{len(result)} row{'' if len(result) == 1 else 's'}", "dim"))


def _as_table(result: Result) -> RenderableType:
    names = [terminal.plain(name) for name in result.columns]
    numbers = [
        name
        for name, *values in zip(names, *result.rows, strict=True)
        if any(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    ]
    table = terminal.table(*names, right=numbers)
    for row in result.rows:
        table.add_row(*map(terminal.text, row))
    return table


def _as_blocks(result: Result) -> RenderableType:
    """Return one block a row, one line a value: what is too wide for a table stays readable."""
    from rich.text import Text

    if not result.rows:
        return Text(", ".join(map(terminal.plain, result.columns)), "bold")
    widest = max(map(len, result.columns))
    blocks = Text()
    for row in result.rows:
        for name, value in zip(result.columns, row, strict=True):
            blocks.append(f"{terminal.plain(name):<{widest}}  ", "bold")
            # Whole values, wrapped by the terminal: they may be what was asked for.
            blocks.append(terminal.UNKNOWN if value is None else terminal.plain(value))
            blocks.append("\n")
        blocks.append("\n")
    blocks.right_crop()
    return blocks
