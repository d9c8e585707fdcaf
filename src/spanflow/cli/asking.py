"""What all commands that ask about many engagements share: their filters, and how they answer.

A command names its question; which engagements are meant, which engine is asked, and whether a
table, JSON, CSV or a picture comes of it is the same for all and stands here.
"""

from __future__ import annotations

import contextlib
import csv
import inspect
import json
import sys
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, cast

import typer

from spanflow.cli import terminal
from spanflow.cli.terminal import JsonOption, LedgerOption

if TYPE_CHECKING:
    from spanflow.query.answers import Answer
    from spanflow.query.conditions import Condition
    from spanflow.query.questions import Chosen, Questions

__all__ = ["Asking", "conditions", "duration", "moment", "note", "question"]

_Read: TypeAlias = "dict[str, Condition]"

_COLUMNS = ("name", "user_id")
_OTHER_COLUMNS = ("conversation_id", "service_name", "session_id")
_STYLES = {
    "dropped": "yellow",
    "abandoned": "yellow",
    "failed": "bold red",
    "interrupted": "red",
    "waiting": "magenta",
    "paused": "magenta",
    "active": "cyan",
}
_PANEL = "Which engagements"


def moment(text: str) -> datetime:
    """Read an instant: a date, a date and a time (UTC), or how long ago, like ``7d``."""
    from spanflow.settings import parse_duration

    # Digits alone are a date; only with a unit they are a time ago.
    if text[-1:].isalpha():
        with contextlib.suppress(ValueError, OverflowError):
            return datetime.now(UTC) - parse_duration(text)
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        message = f"{text!r} is no time; write 2026-11-01, 2026-11-01T09:30, or 7d for a week ago."
        raise typer.BadParameter(message) from None


def duration(text: str) -> timedelta:
    """Read a duration such as ``90s``, ``30m``, ``2h`` or ``7d``."""
    from spanflow.settings import parse_duration

    try:
        return parse_duration(text)
    except ValueError as error:
        message = f"{error}."
        raise typer.BadParameter(message) from None


def conditions(texts: Iterable[str], *, named: Iterable[str] = ()) -> _Read:
    """Read ``key=value``, each value as JSON where it is any, else as text.

    Args:
        texts: What was given.
        named: Keys whose values are always text.
    """
    read: _Read = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not (key and equals):
            message = f"{text!r} is no condition; write it like tier=pro."
            raise typer.BadParameter(message)
        read[key] = value if key in named else _value(value)
    return read


def _value(text: str) -> Condition:
    try:
        read = json.loads(text, parse_constant=_no_number)
    except ValueError:
        return text
    # Lists and objects cannot be compared: they are what somebody wrote.
    return cast("Condition", read) if read is None or isinstance(read, str | int | float) else text


def _no_number(name: str) -> None:
    raise ValueError(name)


@dataclass(frozen=True, slots=True)
class Asking:
    """How a question is asked and answered this time."""

    ledger: Path | None
    engine: str | None
    chosen: Chosen
    as_json: bool
    as_csv: bool
    pictures: tuple[Path, ...]

    @contextlib.contextmanager
    def questions(self) -> Generator[Questions]:
        """Open what answers: the ledger, or the engine that was named."""
        if self.engine is None:
            from spanflow.query.journeys import connect

            with connect(terminal.ledger_path(self.ledger)) as opened:
                yield opened
            return
        from spanflow.query.clickhouse import open_engine
        from spanflow.query.questions import Questions

        with contextlib.ExitStack() as stack:
            engine = open_engine(self.engine)
            if (close := getattr(engine, "close", None)) is not None:
                stack.callback(close)
            yield Questions(engine)

    @property
    def is_read_by_people(self) -> bool:
        """Whether a table is printed, and not something for a program."""
        return not (self.as_json or self.as_csv)

    def tell(self, answer: Answer[Any], *, limit: int | None = None) -> None:
        """Print an answer, and draw it where that was asked for.

        Args:
            answer: What is printed.
            limit: How many lines a table has at most; JSON and CSV hold everything.
        """
        for path in self.pictures:
            answer.plot().save(path)
            note(f"Wrote {path}")
        if self.as_json:
            terminal.print_json([row.model_dump() for row in answer])
        elif self.as_csv:
            _print_csv(answer)
        else:
            _print_table(answer, limit)


def note(text: str) -> None:
    """Tell a person something beside the answer."""
    sys.stderr.write(f"{terminal.plain(text)}\n")


def _print_csv(answer: Answer[Any]) -> None:
    from spanflow.query.frames import cells

    written = csv.writer(sys.stdout, lineterminator="\n")
    written.writerow(answer.columns)
    columns = cells(answer.row, answer.rows).values()
    written.writerows([_csv_cell(value) for value in row] for row in zip(*columns, strict=True))


def _csv_cell(value: object) -> object:
    if isinstance(value, list):
        return json.dumps(value, ensure_ascii=False)
    return value.isoformat() if isinstance(value, datetime) else value


def _print_table(answer: Answer[Any], limit: int | None) -> None:
    from spanflow.query.shown import Shown, fitting

    console = terminal.console()
    if not len(answer):
        console.print("Nothing was found.")
        return
    whole = answer.shown()
    shown = fitting(Shown(whole.columns, whole.lines[:limit]), console.width)
    table = terminal.table()
    for column in shown.columns:
        table.add_column(
            column.header, justify="right" if column.is_number else "left", no_wrap=True
        )
    for line in shown.lines:
        table.add_row(
            *(
                terminal.status_text(cell)
                if column.name in {"status", "outcome"}
                else terminal.text(cell, "cyan" if column.is_bar else _style(column.name, cell))
                for column, cell in zip(shown.columns, line, strict=True)
            )
        )
    console.print(table)
    if len(whole.lines) > len(shown.lines):
        console.print(terminal.text("… and more (--limit)", "dim"))


def _style(name: str, cell: str) -> str:
    if cell in {"0", terminal.UNKNOWN}:
        return "dim"
    return _STYLES.get(name, "")


def question(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that all of them share, and call it with an :class:`Asking`."""
    own = inspect.signature(command, eval_str=True).parameters
    names, shared = list(own)[1:], inspect.signature(_asking, eval_str=True).parameters

    @wraps(command)
    def call(**given: Any) -> None:
        mine = {name: given.pop(name) for name in names}
        command(_asking(**given), **mine)

    together = [own[name] for name in names] + list(shared.values())
    keyword = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in together]
    signed = cast("Any", call)
    # typer reads a command's options from its signature.
    signed.__signature__ = inspect.Signature(keyword)
    signed.__annotations__ = {one.name: one.annotation for one in keyword}
    del signed.__wrapped__
    return call


def _asking(  # noqa: PLR0913 - the options of every question
    *,
    since: Annotated[
        str | None,
        typer.Option(
            metavar="WHEN",
            help="Started then or later: 2026-11-01, 2026-11-01T09:30 (UTC), or 7d.",
            rich_help_panel=_PANEL,
        ),
    ] = None,
    until: Annotated[
        str | None,
        typer.Option(metavar="WHEN", help="Started before.", rich_help_panel=_PANEL),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Of the agent of this name.", rich_help_panel=_PANEL)
    ] = None,
    user: Annotated[
        str | None, typer.Option(metavar="ID", help="Of this user.", rich_help_panel=_PANEL)
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE",
            help="With this in their metadata, by type: tries=1 is a number, 'tries=\"1\"' text.",
            rich_help_panel=_PANEL,
        ),
    ] = None,
    as_of: Annotated[
        str | None,
        typer.Option(metavar="WHEN", help="Answer as at this time.", rich_help_panel=_PANEL),
    ] = None,
    idle_after: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Abandoned after so much silence: 30m.",
            rich_help_panel=_PANEL,
        ),
    ] = None,
    ledger: LedgerOption = None,
    engine: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Ask clickhouse://user:password@host:8123/db instead."),
    ] = None,
    as_json: JsonOption = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV and nothing else.")] = False,
    png: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Draw it, too."),
    ] = None,
    svg: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Draw it, too."),
    ] = None,
) -> Asking:
    if as_json and as_csv:
        message = "Choose either --json or --csv."
        raise typer.BadParameter(message)
    for kind, path in (("png", png), ("svg", svg)):
        if path is not None and path.suffix.lower() != f".{kind}":
            message = f"Let the name for --{kind} end in .{kind}."
            raise typer.BadParameter(message)
    wanted = conditions(where or (), named=_COLUMNS)
    for column in _OTHER_COLUMNS:
        if column in wanted:
            message = f"{column} is no metadata; `spanflow compare` and SQL can filter by it."
            raise typer.BadParameter(message)
    chosen: Chosen = {
        "since": None if since is None else moment(since),
        "until": None if until is None else moment(until),
        "name": cast("str | None", wanted.pop("name", name)),
        "user_id": cast("str | None", wanted.pop("user_id", user)),
        "metadata": wanted or None,
        "as_of": None if as_of is None else moment(as_of),
        "idle_after": None if idle_after is None else duration(idle_after),
    }
    pictures = tuple(path for path in (png, svg) if path is not None)
    return Asking(ledger, engine, chosen, as_json, as_csv, pictures)
