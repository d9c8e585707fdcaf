"""`spanflow tail`: what begins and what ends, one line each, as it happens."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from spanflow.cli import terminal
from spanflow.cli.terminal import JsonOption, LedgerOption

if TYPE_CHECKING:
    from rich.text import Text

    from spanflow.model import Change

__all__ = ["follow_ledger"]

_INTERVAL_S = 1.0


def follow_ledger(
    ledger: LedgerOption = None,
    engagement: Annotated[
        str | None,
        typer.Option(metavar="ID", help="Only this one: its id, or its beginning or end."),
    ] = None,
    last: Annotated[
        int, typer.Option("-n", min=0, help="How many of the last changes to show first.")
    ] = 10,
    as_json: JsonOption = False,
) -> None:
    """Show the last changes, then every new one as it comes, until Ctrl-C.

    With --json, one JSON object a line.

    Example: [bold]spanflow tail --engagement 4f1c09d2ab7e -n 50[/bold]
    """
    from spanflow.query.journeys import connect

    console = terminal.console()

    def show(change: Change) -> None:
        if as_json:
            terminal.print_json_line(change.model_dump(exclude_none=True))
        else:
            # Written here, because rich would end the program where nobody reads on.
            with console.capture() as capture:
                # Cut where there is an edge; what goes into another program stays whole.
                console.print(
                    _line(change),
                    no_wrap=True,
                    overflow="ellipsis" if console.is_terminal else "ignore",
                    crop=console.is_terminal,
                )
            sys.stdout.write(capture.get())
            sys.stdout.flush()

    stopped: list[int] = []

    def stop(number: int, _frame: object) -> None:
        stopped.append(number)
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, stop)
    try:
        with connect(terminal.ledger_path(ledger)) as opened:
            only = opened.resolve(engagement) if engagement is not None else None
            latest = opened.latest_changes(last, engagement_id=only) if last else []
            coming = opened.follow(interval_s=_INTERVAL_S, engagement_id=only)
        for change in latest:
            show(change)
        for change in coming:
            show(change)
    except KeyboardInterrupt:
        return
    except RuntimeError:
        # What becomes of Ctrl-C where DuckDB is at work.
        if not stopped:
            raise
    except BrokenPipeError:
        # Whoever read has seen enough; at exit Python would complain of what is still buffered.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _line(change: Change) -> Text:
    from rich.text import Text

    line = Text()
    moment = change.at.strftime("%H:%M:%S.%f")[:-3] if change.at else " " * 12
    line.append(f"{moment}  ", "dim")
    where = change.engagement_id
    line.append(f"{terminal.short_id(where) if where else terminal.UNKNOWN:<12}  ", "bold")
    line.append(f"{change.kind:<9}  ")
    line.append(terminal.plain(change.path or change.name or terminal.UNKNOWN))
    line.append("  ")
    line.append(terminal.status_text(change.status or change.phase))
    said = [
        terminal.duration(change.duration_ms) if change.duration_ms is not None else "",
        f"{change.usage.total_tokens:,} tokens" if change.usage.total_tokens else "",
        terminal.cost(change.usage.cost_usd) if change.usage.cost_usd else "",
        terminal.plain(change.error_type or ""),
    ]
    line.append("".join(f" · {part}" for part in said if part), "dim")
    return line
