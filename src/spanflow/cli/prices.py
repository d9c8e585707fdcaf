"""`spanflow prices`: what models cost, told by LiteLLM's map, a file, or by hand."""

from __future__ import annotations

from dataclasses import asdict, replace
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spanflow.cli import terminal
from spanflow.cli.terminal import JsonOption, LedgerOption

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from rich.table import Table

    from spanflow.ledger.pricing import Repriced

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, rich_markup_mode="rich")

_HEADS = ("model", "provider", "from", "above", "in", "out", "read", "write", "reason")
_EVER = 1970
_PRICES = """
    SELECT * EXCLUDE (told_at)
    FROM prices
    WHERE contains(model, $model::VARCHAR)
    OR ($model::VARCHAR IS NULL AND model IN (SELECT model FROM llm_calls))
    ORDER BY ALL
"""
_UNPRICED = """
    SELECT model, provider, count(*) AS calls
    FROM llm_calls
    WHERE counted AND cost_usd IS NULL
    GROUP BY ALL
    ORDER BY calls DESC, model
"""
_RATES = ("input", "output", "cache_read", "cache_write", "reasoning")


def _rate(text: str) -> Decimal:
    try:
        rate = Decimal(text)
    except InvalidOperation:
        rate = Decimal("nan")
    if not rate.is_finite() or rate < 0:
        message = f"{text!r} is no price; name US dollars per million tokens, like 0.15"
        raise typer.BadParameter(message)
    return rate


def _per_million(name: str, of: str) -> Any:
    return typer.Option(f"--{name}", parser=_rate, metavar="USD", help=f"Per million tokens {of}.")


@app.command("import")
def import_prices(
    source: Annotated[
        str,
        typer.Option(
            "--from", metavar="litellm|FILE", help="LiteLLM's own map, or a JSON file of prices."
        ),
    ] = "litellm",
    ledger: LedgerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take over the prices of many models.

    A model's first price is for all its calls; one that has changed since the last import, for
    calls from today on. What was set by hand goes before both. A file is a map like LiteLLM's, or
    what `spanflow prices list --json` prints. LiteLLM itself is only read, never run.

    Example: [bold]spanflow prices import[/bold]
    """
    from spanflow.cli.price_map import read_prices
    from spanflow.ledger import pricing

    told = read_prices(source)
    _tell(pricing.import_prices(terminal.ledger_path(ledger), told), as_json=as_json)


@app.command("set")
def set_price(  # noqa: PLR0913, PLR0917 - a command's options
    model: Annotated[str, typer.Argument(help="The model, as its answers name it.")],
    given: Annotated[Decimal, _per_million("input", "of input.")],
    produced: Annotated[Decimal, _per_million("output", "of output.")],
    cache_read: Annotated[
        Decimal | None, _per_million("cache-read", "read from the provider's cache.")
    ] = None,
    cache_write: Annotated[
        Decimal | None, _per_million("cache-write", "written to the provider's cache.")
    ] = None,
    reasoning: Annotated[
        Decimal | None, _per_million("reasoning", "of reasoning; without it, as output.")
    ] = None,
    provider: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only where this provider serves it.")
    ] = None,
    since: Annotated[
        datetime | None,
        typer.Option(
            "--from",
            formats=["%Y-%m-%d"],
            metavar="DATE",
            help="The first day (UTC) of calls it is for; without it, all.",
        ),
    ] = None,
    ledger: LedgerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Set what a model costs, and count its calls anew.

    Tokens whose rate is not told leave a call unpriced.

    Example: [bold]spanflow prices set my-model --input 0.15 --output 0.6 --from 2026-01-01[/bold]
    """
    from spanflow.ledger import pricing

    price = pricing.Price(
        model=model,
        provider=provider,
        input_usd_per_million=given,
        output_usd_per_million=produced,
        cache_read_usd_per_million=cache_read,
        cache_write_usd_per_million=cache_write,
        reasoning_usd_per_million=reasoning,
    )
    if since is not None:
        price = replace(price, valid_from=since.date())
    _tell(pricing.set_price(terminal.ledger_path(ledger), price), as_json=as_json)


@app.command("list")
def list_prices(
    model: Annotated[str | None, typer.Argument(help="Part of a model's name.")] = None,
    ledger: LedgerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the prices of the models that were called, and of which models there is none.

    With a part of a name, those of all models that are called like it.

    Example: [bold]spanflow prices list gpt-4o[/bold]
    """
    from spanflow.query.journeys import connect

    with connect(terminal.ledger_path(ledger)) as opened:
        found = opened.sql(_PRICES, {"model": model})
        unpriced = opened.sql(_UNPRICED)
    if as_json:
        terminal.print_json(list(found))
        return
    console = terminal.console()
    if found:
        console.print(_as_table(list(found)))
    for row in unpriced if model is None else ():
        of = "" if row["provider"] is None else f" ({row['provider']})"
        console.print(
            terminal.text(f"unpriced: {row['model']}{of}, {row['calls']:,} calls", "yellow")
        )
    if not found:
        console.print("No price. Say `spanflow prices import`, or `spanflow prices set`.")


@app.command("reprice")
def reprice_calls(ledger: LedgerOption = None, as_json: JsonOption = False) -> None:
    """Count anew every call whose cost is not what the prices make it.

    Setting and importing prices does that already.

    Example: [bold]spanflow prices reprice[/bold]
    """
    from spanflow.ledger import pricing

    _tell(pricing.reprice(terminal.ledger_path(ledger)), as_json=as_json)


def _as_table(prices: Iterable[Mapping[str, Any]]) -> Table:
    made = terminal.table(*_HEADS, right=_HEADS[3:], cut="model")
    for price in prices:
        day = price["valid_from"]
        made.add_row(
            terminal.text(price["model"]),
            terminal.text(price["provider"]),
            terminal.text("ever" if day.year == _EVER else f"{day:%Y-%m-%d}"),
            terminal.count(price["above_input_tokens"] or None),
            *(terminal.text(_short(price[f"{name}_usd_per_million"])) for name in _RATES),
        )
    return made


def _short(rate: Decimal | None) -> str | None:
    return None if rate is None else format(rate.normalize(), "f")


def _tell(done: Repriced, *, as_json: bool) -> None:
    if as_json:
        terminal.print_json(asdict(done))
        return
    console = terminal.console()
    console.print(f"{done.prices:,} prices written; {done.calls:,} calls cost something else now.")
    if done.unpriced_calls:
        console.print(
            f"{done.unpriced_calls:,} calls have no cost; `spanflow prices list` tells of whom.",
            style="yellow",
        )
