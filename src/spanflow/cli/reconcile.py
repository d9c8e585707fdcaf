"""`spanflow reconcile`: where spans, ledger and frameworks disagree about what was spent."""

from __future__ import annotations

from collections import Counter
from typing import Final

import typer

from spanflow.cli import terminal
from spanflow.cli.terminal import JsonOption, LedgerOption

__all__ = ["reconcile_usage"]

_SHOWN: Final = 50


def reconcile_usage(ledger: LedgerOption = None, as_json: JsonOption = False) -> None:
    """List each call, step and turn whose usage is told in two ways, and why.

    Asks the view usage_conflicts. Exits with 1 where there is any.

    Example: [bold]spanflow reconcile --json[/bold]
    """
    from spanflow.query.journeys import connect

    with connect(terminal.ledger_path(ledger)) as opened:
        conflicts = list(
            opened.sql("FROM usage_conflicts ORDER BY engagement_id, turn_id, what, span_id, field")
        )
    if as_json:
        terminal.print_json(conflicts)
    else:
        _tell(conflicts)
    if conflicts:
        raise typer.Exit(1)


def _tell(conflicts: list[dict[str, object]]) -> None:
    console = terminal.console()
    if not conflicts:
        console.print("Spans, ledger and frameworks agree.")
        return
    numbers = ("on spans", "in ledger")
    table = terminal.table(
        "engagement", "what", "span", "field", *numbers, "why", right=numbers, cut="span"
    )
    for one in conflicts[:_SHOWN]:
        engagement_id = one["engagement_id"]
        table.add_row(
            terminal.text(engagement_id and terminal.short_id(str(engagement_id)), "bold"),
            terminal.text(one["what"]),
            terminal.text(one["span_id"]),
            terminal.text(str(one["field"]).removesuffix("_tokens")),
            terminal.text(one["on_spans"]),
            terminal.text(one["in_ledger"]),
            terminal.text(one["reason"], "yellow"),
        )
    console.print(table)
    if len(conflicts) > _SHOWN:
        console.print(terminal.text(f"and {len(conflicts) - _SHOWN:,} more: use --json", "dim"))
    counts = Counter(str(one["reason"]) for one in conflicts)
    told = ", ".join(f"{count:,} {reason}" for reason, count in counts.most_common())
    console.print(terminal.text(told, "dim"))
